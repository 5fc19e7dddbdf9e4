"""ONNX: the model as other runtimes take it, for batches of any size, checked against one."""

import contextlib
import inspect
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sparsity_core.errors import SparsityError
from sparsity_core.weights import prunable

TOLERANCE = 1e-4  # of the outputs, relative to the largest where that is above 1


@dataclass(frozen=True, eq=False)
class OnnxModel:
    """A file's content and what the check found."""

    content: bytes
    difference: float  # the largest between onnxruntime's outputs and torch's
    batches: tuple[int, ...]  # sizes that were compared
    zeros: int  # in the prunable weights; all are in the file


def onnx_model(model: nn.Module, sample: Tensor) -> OnnxModel:
    """A model in eval mode as ONNX with a free batch size; `sample`: 2 inputs or more.

    Raises SparsityError when the extra is not installed, torch cannot export the model, outputs
    of onnxruntime differ, or a zero is lost.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 - torch's exporter wants it
    except ImportError as error:
        raise SparsityError(
            f"ONNX needs the package {error.name}; pip install 'sparsity-explorer[onnx]'"
        ) from error
    if len(sample) < 2:
        raise SparsityError("ONNX export needs a sample of two inputs or more")
    free: Any = {0: torch.export.Dim.DYNAMIC}
    first = next(iter(inspect.signature(model.forward).parameters.values()))
    if first.kind is first.VAR_POSITIONAL:  # forward(*inputs)
        free = (free,)
    try:
        with _quiet(), torch.no_grad():
            program: Any = torch.onnx.export(
                model.eval(),
                (sample,),
                dynamo=True,
                input_names=["input"],
                output_names=["output"],
                dynamic_shapes=(free,),
                verbose=False,
            )
    except Exception as error:
        cause = error.__cause__ or error  # torch's own words say only that it failed
        said = f"{type(cause).__name__}: {cause}".splitlines()[0]
        raise SparsityError(f"torch cannot export this model to ONNX ({said[:300]})") from error
    content: bytes = program.model_proto.SerializeToString()
    onnx.checker.check_model(content)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    batches = tuple(dict.fromkeys((1, len(sample))))
    difference = max(_difference(model, session, sample[:count]) for count in batches)
    zeros = _check_zeros(model, onnx.load_model_from_string(content))
    return OnnxModel(content, difference, batches, zeros)


@torch.no_grad()
def _difference(model: nn.Module, session: Any, inputs: Tensor) -> float:
    expected = model(inputs).numpy()
    (found,) = session.run(None, {"input": inputs.numpy()})
    difference = float(np.abs(found - expected).max())
    if not difference <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
        raise SparsityError(
            f"onnxruntime gives other outputs than torch (by {difference:.3g}); do not deploy this "
            "file, and please report the model"
        )
    return difference


def _check_zeros(model: nn.Module, proto: Any) -> int:
    """How many weights are zero; raises SparsityError for a layer whose zeros are not the file's.

    The exporter may transpose a weight, and fold a batch norm into it, which scales its rows.
    """
    from onnx import numpy_helper

    held: dict[tuple[int, ...], list[np.ndarray[Any, Any]]] = {}
    for initializer in proto.graph.initializer:
        array = numpy_helper.to_array(initializer)
        held.setdefault(array.shape, []).append(array == 0)
    total = 0
    for name in prunable(model):
        zeros = model.get_parameter(name).detach().numpy() == 0
        total += int(zeros.sum())
        same = any((zeros <= found).all() for found in held.get(zeros.shape, []))
        turned = any((found >= zeros.T).all() for found in held.get(zeros.T.shape, []))
        if zeros.any() and not same and not turned:
            raise SparsityError(f"{name}: zeros were lost in the ONNX file; do not deploy it")
    return total


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter talks much, of packages that are not wanted here among others."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
