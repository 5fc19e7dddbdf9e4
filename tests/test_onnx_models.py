"""Models in ONNX files: swept, pruned, given back as they came."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from sparsity_core.errors import SparsityError
from sparsity_core.export.onnx_file import onnx_model
from sparsity_core.intake.onnx_file import read_onnx
from sparsity_core.intake.onnx_module import module_of, write_back
from sparsity_core.sweep.plan import plan_sweep
from sparsity_core.task import load_task
from sparsity_core.weights import mask_, prunable
from tests.onnx_graphs import RNG, expected, ints, node, rand, saved

# Whole models


@pytest.fixture(scope="module")
def lenet(tmp_path_factory):
    """digits-lenet as torch exports it, by hand: exporting takes seconds."""
    task = load_task("digits-lenet")
    w = {name: tensor.numpy() for name, tensor in task.model.state_dict().items()}
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        node("Conv", "conv1.weight", "conv1.bias", outputs=("a",), pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MaxPool", ["b"], ["c"], **pool),
        helper.make_node("Conv", ["c", "conv2.weight", "conv2.bias"], ["d"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["d"], ["e"]),
        helper.make_node("MaxPool", ["e"], ["f"], **pool),
        helper.make_node("Flatten", ["f"], ["g"]),
        helper.make_node("Gemm", ["g", "fc1.weight", "fc1.bias"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["i"]),
        helper.make_node("MatMul", ["i", "val_7"], ["j"]),
        helper.make_node("Add", ["j", "fc2.bias"], ["y"]),
    ]
    w["val_7"] = w.pop("fc2.weight").T.copy()
    return saved(tmp_path_factory.mktemp("onnx") / "lenet.onnx", nodes, w, ("N", 1, 8, 8))


def test_a_sweep_of_the_onnx_file_is_that_of_the_model(lenet):
    own, original = load_task(f"onnx:{lenet}?data=digits"), load_task("digits-lenet")
    assert any("agree with onnxruntime's" in note for note in own.notes)
    assert list(prunable(own.model)) == list(prunable(original.model))
    options = {
        "scorers": ["magnitude", "wanda", "random", "taylor"],
        "structures": ["unstructured", "out-channel", "2:4"],
        "sparsities": [0.5, 0.9],
        "engine": "exact",
    }
    rows = []
    for task in (own, original):
        plan = plan_sweep(task, **options)
        rows.append(list(plan.run(task, plan.points())))
    for mine, theirs in zip(*rows, strict=True):
        assert (mine.layer, mine.status, mine.engine) == (
            theirs.layer,
            theirs.status,
            theirs.engine,
        )
        # Out-channel pruning takes biases along, and a MatMul's is another operator's.
        if (mine.layer, mine.structure) != ("fc2.weight", "out-channel"):
            assert (mine.value, mine.achieved_sparsity) == (theirs.value, theirs.achieved_sparsity)


def test_the_pruned_file_has_the_zeros_and_nothing_else_is_changed(lenet, tmp_path):
    task = load_task(f"onnx:{lenet}?data=digits")
    masks = {
        name: torch.rand(layer.shape, generator=torch.Generator().manual_seed(0)) > 0.7
        for name, layer in prunable(task.model).items()
    }
    mask_(task.model, masks)
    write_back(task.model, lenet, tmp_path / "pruned.onnx")
    before, after = (onnx.load(str(p)).graph for p in (lenet, tmp_path / "pruned.onnx"))
    assert list(before.node) == list(after.node)
    arrays = {t.name: numpy_helper.to_array(t) for t in after.initializer}
    assert (arrays["val_7"].T != 0).sum() == int(masks["fc2.weight"].sum())
    x = task.test.inputs[:8]
    with torch.no_grad():
        found = task.model(x).numpy()
    np.testing.assert_allclose(expected(tmp_path / "pruned.onnx", x.numpy()), found, atol=1e-4)


def test_what_came_as_onnx_goes_as_onnx(lenet):
    task = load_task(f"onnx:{lenet}?data=digits")
    inputs = task.test.inputs[:6]
    written = onnx_model(task.model, inputs)
    session = ort.InferenceSession(written.content, providers=["CPUExecutionProvider"])
    original = ort.InferenceSession(str(lenet), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"input": inputs.numpy()})
    (expected,) = original.run(None, {original.get_inputs()[0].name: inputs.numpy()})
    assert np.allclose(found, expected, atol=1e-4)


def test_graphs_of_one_shape_and_other_operators_have_other_digests(tmp_path):
    np.savez(tmp_path / "x.npz", x=rand(20, 4))
    digests = set()
    for kind in ("Relu", "Tanh"):
        path = saved(
            tmp_path / f"{kind}.onnx",
            [node("MatMul", "w", outputs=("a",)), helper.make_node(kind, ["a"], ["y"])],
            {"w": np.ones((4, 3), np.float32)}, ("N", 4),
        )  # fmt: skip
        digests.add(load_task(f"onnx:{path}?data={tmp_path}/x.npz").model_digest)
    assert len(digests) == 2


def test_without_data_it_says_so(lenet):
    with pytest.raises(SparsityError, match="say which with --data"):
        load_task(f"onnx:{lenet}")


@pytest.fixture
def two_inputs(tmp_path):
    """x (N, 4) beside tokens (N, 3): a product, and an embedding's mean, added up."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("N", 4)),
              helper.make_tensor_value_info("tokens", TensorProto.INT64, ("N", 3))]  # fmt: skip
    nodes = [
        node("Gemm", "w", outputs=("a",), transB=1),
        helper.make_node("Gather", ["e", "tokens"], ["b"]),
        helper.make_node("ReduceMean", ["b", "axis"], ["c"], keepdims=0),
        helper.make_node("Add", ["a", "c"], ["y"]),
    ]
    arrays = {"w": rand(5, 4), "e": rand(7, 5), "axis": ints(1)}
    return saved(tmp_path / "two.onnx", nodes, arrays, inputs=inputs)


def test_several_inputs_go_to_onnxruntime_by_name(two_inputs, tmp_path):
    tokens = RNG.integers(0, 7, (30, 3))
    np.savez(tmp_path / "data.npz", tokens=tokens, x=rand(30, 4), y=np.arange(30) % 5)
    task = load_task(f"onnx:{two_inputs}?data={tmp_path}/data.npz")
    assert "outputs agree with onnxruntime's" in " ".join(task.notes)
    session = ort.InferenceSession(str(two_inputs), providers=["CPUExecutionProvider"])
    x, tokens = rand(6, 4), RNG.integers(0, 7, (6, 3))
    (expected,) = session.run(None, {"x": x, "tokens": tokens})
    found = module_of(read_onnx(two_inputs))(tokens=torch.tensor(tokens), x=torch.tensor(x))
    assert torch.allclose(found, torch.from_numpy(expected), atol=1e-5)
    plan = plan_sweep(task, sparsities=[0.5])
    assert [row.status for row in plan.run(task, plan.points())] == ["ok"]
    np.savez(tmp_path / "other.npz", words=tokens, x=x)
    with pytest.raises(SparsityError, match=r"cannot run it on inputs words \(2, 3\), x \(2, 4\)"):
        load_task(f"onnx:{two_inputs}?data={tmp_path}/other.npz")
