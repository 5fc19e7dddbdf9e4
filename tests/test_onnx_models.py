"""ONNX in: the module computes what onnxruntime computes, and all that works on models works."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from sparsity_core.errors import SparsityError
from sparsity_core.export.onnx_file import onnx_model
from sparsity_core.intake import onnx_file
from sparsity_core.intake.onnx_file import read_onnx
from sparsity_core.intake.onnx_module import module_of, write_back
from sparsity_core.intake.onnx_ops import OPERATORS
from sparsity_core.sweep.plan import plan_sweep
from sparsity_core.task import load_task
from sparsity_core.weights import mask_, prunable

RNG = np.random.default_rng(0)


def rand(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def ints(*values):
    return np.array(values, np.int64)


def saved(path, nodes, arrays=(), shape=("N", 3, 6, 6), inputs=None, outputs=("y",), **options):
    inputs = inputs or [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    graph = helper.make_graph(
        nodes,
        "g",
        inputs,
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in dict(arrays).items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10, **options
    )
    onnx.save(model, str(path))
    return path


def node(kind, *others, outputs=("y",), **attributes):
    return helper.make_node(kind, ["x", *others], list(outputs), **attributes)


# operator -> node, the arrays beside it, and the shape of x where it is not (2, 3, 6, 6)
CASES = {
    **{name: (node(name), {}) for name in (
        "Identity Neg Abs Exp Erf Sin Cos Floor Ceil Round Sign Relu Sigmoid Tanh Softplus "
        "Softsign Mish HardSwish HardSigmoid LeakyRelu Elu Gelu Softmax LogSoftmax Dropout "
        "GlobalAveragePool GlobalMaxPool Flatten Transpose".split()
    )},
    **{name: (node(name, "b"), {"b": rand(3, 1, 1)})
       for name in "Add Sub Mul Div Max Min Sum PRelu".split()},
    "Pow": (node("Pow", "b"), {"b": np.array(2.0, np.float32)}),
    "MatMul": (node("MatMul", "b"), {"b": rand(6, 4)}),
    "Clip": (node("Clip", "a", "b"), {"a": np.float32(-0.5), "b": np.float32(0.5)}),
    "Cast": (node("Cast", to=1), {}),
    "CastLike": (node("CastLike", "b"), {"b": rand(1)}),
    "Reshape": (node("Reshape", "s"), {"s": ints(0, -1)}),
    "Squeeze": (node("Squeeze", "s"), {"s": ints(2)}, (2, 3, 1, 4)),
    "Unsqueeze": (node("Unsqueeze", "s"), {"s": ints(1, -1)}),
    "Concat": (node("Concat", "x", axis=1), {}),
    "Slice": (node("Slice", "a", "b", "c", "d"),
              {"a": ints(1, -4), "b": ints(3, 100), "c": ints(1, 3), "d": ints(1, 2)}),
    "Gather": (node("Gather", "i", axis=1), {"i": ints(2, -3)}),
    "Expand": (node("Expand", "s"), {"s": ints(2, 3, 6, 1)}),
    "Tile": (node("Tile", "s"), {"s": ints(1, 2, 1, 1)}),
    "Pad": (node("Pad", "s"), {"s": ints(0, 0, 1, 2, 0, 0, 0, 1)}),
    "ReduceMean": (node("ReduceMean", "s"), {"s": ints(2, 3)}),
    "ReduceSum": (node("ReduceSum", "s", keepdims=0), {"s": ints(-1)}),
    "ReduceMax": (node("ReduceMax", "s"), {"s": ints(1)}),
    "ReduceMin": (node("ReduceMin", "s"), {"s": ints(1)}),
    "ReduceL2": (node("ReduceL2", "s"), {"s": ints(1, 2)}),
    "MaxPool": (node("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]), {}),
    "AveragePool": (node("AveragePool", kernel_shape=[2, 2], strides=[2, 2]), {}),
    "LayerNormalization": (node("LayerNormalization", "w", "b"), {"w": rand(6), "b": rand(6)}),
    "RMSNormalization": (node("RMSNormalization", "w"), {"w": rand(6)}),
    "InstanceNormalization": (
        node("InstanceNormalization", "w", "b"), {"w": rand(3), "b": rand(3)},
    ),
    "GroupNormalization": (
        node("GroupNormalization", "w", "b", num_groups=3), {"w": rand(3), "b": rand(3)},
    ),
    "Conv": (
        node("Conv", "c.weight", "c.bias", pads=[1, 0, 1, 0], strides=[2, 1], dilations=[1, 2]),
        {"c.weight": rand(4, 3, 3, 3), "c.bias": rand(4)},
    ),
    "Conv, grouped, uneven": (
        node("Conv", "c.weight", group=3, pads=[0, 1, 1, 0]), {"c.weight": rand(6, 1, 2, 2)},
    ),
    "Conv, same": (node("Conv", "c.weight", auto_pad="SAME_UPPER"), {"c.weight": rand(2, 3, 2, 3)}),
    "MaxPool, uneven": (node("MaxPool", kernel_shape=[2, 2], pads=[0, 0, 1, 1]), {}),
    "Gemm": (node("Gemm", "w", "b", transB=1), {"w": rand(5, 7), "b": rand(5)}, (2, 7)),
    "Gemm, inputs first": (node("Gemm", "w"), {"w": rand(7, 5)}, (2, 7)),
    "BatchNormalization": (
        node("BatchNormalization", "w", "b", "m", "v"),
        {"w": rand(3), "b": rand(3), "m": rand(3), "v": np.abs(rand(3)) + 0.1},
    ),
}  # fmt: skip

# Operators that make sense only beside others: a whole small graph each.
GRAPHS = {
    "Sqrt, Log, Reciprocal": (
        [node("Abs", outputs=("a",)), helper.make_node("Sqrt", ["a"], ["b"]),
         helper.make_node("Add", ["b", "one"], ["c"]), helper.make_node("Log", ["c"], ["d"]),
         helper.make_node("Reciprocal", ["c"], ["e"]), helper.make_node("Add", ["d", "e"], ["y"])],
        {"one": np.array(1.0, np.float32)},
    ),
    "Shape, Gather, Concat, Reshape": (
        [node("Shape", outputs=("s",)), helper.make_node("Gather", ["s", "zero"], ["n"]),
         helper.make_node("Unsqueeze", ["n", "axis"], ["m"]),
         helper.make_node("Concat", ["m", "rest"], ["t"], axis=0),
         helper.make_node("Reshape", ["x", "t"], ["y"])],
        {"zero": np.array(0), "axis": ints(0), "rest": ints(-1)},
    ),
    "Where, comparisons": (
        [node("Greater", "z", outputs=("a",)), node("LessOrEqual", "h", outputs=("b",)),
         helper.make_node("And", ["a", "b"], ["c"]), helper.make_node("Not", ["c"], ["d"]),
         node("Less", "z", outputs=("e",)), node("GreaterOrEqual", "h", outputs=("f",)),
         helper.make_node("Or", ["e", "f"], ["g"]), helper.make_node("Equal", ["d", "g"], ["i"]),
         node("IsNaN", outputs=("k",)), helper.make_node("Or", ["i", "k"], ["l"]),
         helper.make_node("Where", ["l", "x", "z"], ["y"])],
        {"z": np.array(0.0, np.float32), "h": np.array(0.5, np.float32)},
    ),
    "Split": (
        [node("Split", "s", outputs=("a", "b"), axis=1), helper.make_node("Mul", ["b", "b"], ["c"]),
         helper.make_node("Concat", ["c", "a"], ["y"], axis=1)],
        {"s": ints(1, 2)},
    ),
    "Size, Range, ConstantOfShape, Constant": (
        [node("Size", outputs=("s",)), helper.make_node("Cast", ["s"], ["f"], to=1),
         helper.make_node("Range", ["zero", "six", "one"], ["r"]),
         helper.make_node("Cast", ["r"], ["q"], to=1),
         helper.make_node("ConstantOfShape", ["shape"], ["k"],
                          value=numpy_helper.from_array(np.array([2.0], np.float32))),
         helper.make_node("Constant", [], ["v"], value_float=3.0),
         helper.make_node("Sum", ["x", "q", "k", "v", "f"], ["y"])],
        {"zero": np.array(0), "six": np.array(6), "one": np.array(1), "shape": ints(1, 6)},
    ),
}  # fmt: skip


def expected(path, x):
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize("case", [*CASES, *GRAPHS])
def test_operators_are_onnxruntimes(tmp_path, case):
    if case in CASES:
        one, arrays, *shape = CASES[case]
        nodes, shape = [one], shape[0] if shape else (2, 3, 6, 6)
    else:
        (nodes, arrays), shape = GRAPHS[case], (2, 3, 6, 6)
    path = saved(tmp_path / "m.onnx", nodes, arrays, ("N", *shape[1:]))
    x = rand(*shape)
    with torch.no_grad():
        found = module_of(read_onnx(path))(torch.from_numpy(x)).numpy()
    assert found.shape == expected(path, x).shape
    np.testing.assert_allclose(found, expected(path, x), rtol=1e-4, atol=1e-5)


def test_every_operator_has_a_case():
    named = {case.partition(",")[0] for case in CASES}
    named |= {one.op_type for nodes, _ in GRAPHS.values() for one in nodes}
    assert set(OPERATORS) <= named


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


# Broken and hostile


def external(tmp_path, place, content=b"\0" * 48):
    tensor = TensorProto(name="w", data_type=1, dims=[4, 3], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", place), ("offset", "0"), ("length", str(len(content)))):
        tensor.external_data.add(key=key, value=value)
    path = saved(tmp_path / "m.onnx", [node("MatMul", "w")], {}, ("N", 4))
    model = onnx.load(str(path))
    model.graph.initializer.append(tensor)
    path.write_bytes(model.SerializeToString())
    return path


def test_numbers_beside_the_file_are_read(tmp_path):
    (tmp_path / "m.bin").write_bytes(np.arange(12, dtype=np.float32).tobytes())
    graph = read_onnx(external(tmp_path, "m.bin"))
    assert graph.arrays["w"].ravel().tolist() == list(range(12))


@pytest.mark.parametrize("place", ["../secret.bin", "/etc/passwd", "sub/secret.bin", "", "link.bin",
                                   "..", "a\x00b", "absent.bin", "..\\secret.bin"])  # fmt: skip
def test_numbers_elsewhere_are_not(tmp_path, place):
    folder = tmp_path / "models"
    (folder / "sub").mkdir(parents=True)
    for file in (tmp_path / "secret.bin", folder / "sub" / "secret.bin"):
        file.write_bytes(b"\0" * 48)
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(SparsityError, match=r"only a file beside the model is read|not a sound"):
        read_onnx(external(folder, place))


def test_a_file_that_asks_for_too_much_beside_it(tmp_path, monkeypatch):
    (tmp_path / "m.bin").write_bytes(b"\0" * 48)
    path = external(tmp_path, "m.bin")
    monkeypatch.setattr(onnx_file, "_LARGEST", 400)
    model = onnx.load(str(path), load_external_data=False)
    model.graph.initializer[0].external_data[2].value = str(10**12)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(SparsityError, match="asks for more than 400 bytes"):
        read_onnx(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has 0 bytes"),
        (b"\x08\x0a", "without any operator|not a sound ONNX"),
        (b"not protobuf at all" * 9, "not a sound ONNX"),
    ],
)
def test_empty_and_damaged_files(tmp_path, content, message):
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(SparsityError, match=message):
        read_onnx(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("nodes", "arrays", "message"),
    [
        ([node("LSTM", "w", "r", hidden_size=2)], {"w": rand(1, 8, 6), "r": rand(1, 8, 2)},
         r"operators that are not known here: LSTM \(1\)"),
        ([node("Relu")], {}, ""),
        ([helper.make_node("Expand", ["x", "s"], ["y"])], {"s": ints(10**6, 10**6, 6, 6)},
         "268435456 at most"),
        ([helper.make_node("Tile", ["x", "s"], ["y"])], {"s": ints(10**9, 1, 1, 1)}, "at most"),
        ([helper.make_node("ConstantOfShape", ["s"], ["k"]),
          helper.make_node("Add", ["x", "k"], ["y"])],
         {"s": ints(10**6, 10**6)}, "at most"),
        ([helper.make_node("Pad", ["x", "s"], ["y"])], {"s": ints(0, 0, 0, 0, 10**9, 0, 0, 0)},
         "at most"),
        ([helper.make_node("FusedMatMul", ["x", "x"], ["y"], domain="com.microsoft")], {},
         "of one program alone|not a sound"),
    ],
)  # fmt: skip
def test_operators_that_are_unknown_or_ask_for_all_memory(tmp_path, nodes, arrays, message):
    path = tmp_path / "m.onnx"
    if not message:
        model = module_of(read_onnx(saved(path, nodes, arrays)))
        assert model(torch.ones(1, 3, 6, 6)).sum() == 108
        return
    with pytest.raises(SparsityError, match=message):
        module_of(read_onnx(saved(path, nodes, arrays)))(torch.zeros(1, 3, 6, 6))


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
