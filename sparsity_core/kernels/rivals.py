"""Other ways to run a dense model: what a person without sparse kernels would try."""

import contextlib
import io
import tempfile
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparsity_core.kernels.timing import Call

RIVALS = ("compiled", "onnxruntime")


def rivals(model: nn.Module, sample: Tensor, threads: int) -> tuple[dict[str, Call], list[str]]:
    """`torch.compile` and onnxruntime, where they are to be had and give the model's outputs; and
    why one of them is not."""
    calls: dict[str, Call] = {}
    absent = []
    expected = model(sample)
    for name, make in (("compiled", _compiled), ("onnxruntime", _onnxruntime)):
        try:
            call = make(model, sample, threads)
            (found,) = call() if name == "onnxruntime" else (call(),)
            near = 1e-4 * float(expected.abs().max())
            torch.testing.assert_close(torch.as_tensor(found), expected, rtol=1e-3, atol=near)
            calls[name] = call
        except Exception as error:  # noqa: BLE001 - compilers and exporters raise anything
            absent.append(f"{name}: {(str(error) or repr(error)).splitlines()[0]}")
    return calls, absent


def _compiled(model: nn.Module, sample: Tensor, threads: int) -> Callable[[], Any]:  # noqa: ARG001
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = torch.compile(model)
        compiled(sample)
    return lambda: compiled(sample)


def _onnxruntime(model: nn.Module, sample: Tensor, threads: int) -> Callable[[], Any]:
    if not all(find_spec(name) for name in ("onnxruntime", "onnxscript")):
        raise ImportError("needs onnxruntime, onnx and onnxscript, which are not installed")
    import onnxruntime

    quiet = contextlib.redirect_stdout(io.StringIO())  # the exporter tells its progress
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), quiet:
        warnings.simplefilter("ignore")
        file = Path(folder) / "model.onnx"
        torch.onnx.export(model, (sample,), file, dynamo=True, verbose=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"]
        )
    given = {session.get_inputs()[0].name: sample.numpy()}
    return lambda: session.run(None, given)
