"""ONNX files that are broken or hostile are refused with what to do."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from sparsity_core.errors import SparsityError
from sparsity_core.intake import onnx_file
from sparsity_core.intake.onnx_file import read_onnx
from sparsity_core.intake.onnx_module import module_of
from tests.onnx_graphs import ints, node, rand, saved

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
