"""Every operator of an ONNX file gives what onnxruntime gives."""

import numpy as np
import pytest
import torch
from onnx import helper, numpy_helper

from sparsity_core.intake.onnx_file import read_onnx
from sparsity_core.intake.onnx_module import module_of
from sparsity_core.intake.onnx_ops import OPERATORS
from tests.onnx_graphs import expected, ints, node, rand, saved

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
