"""A fused program in bfloat16, which CPUs with AMX multiply eight times as fast as float32."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from sparsity_core.errors import SparsityError
from sparsity_core.sweep.folded import Convolution, Linear
from sparsity_core.sweep.program import Program, Step, Values
from sparsity_core.sweep.rerun import Rerun
from sparsity_core.sweep.rescue import Rescue

LOW = torch.bfloat16


def slow_bf16(device: str) -> bool:
    """Does this device multiply bfloat16 no faster than float32?"""
    if device == "cuda":
        return torch.cuda.get_device_capability() < (8, 0)
    fast = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return not (fast and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def check_fast_bf16(device: str) -> None:
    """Raise SparsityError where bfloat16 is slow."""
    if slow_bf16(device):
        raise SparsityError(
            "the engine verified needs a CPU with fast bfloat16 (AMX or AVX512-BF16) or a GPU of "
            f"compute capability 8.0, which this {device} is not; take the engine exact, whose "
            "counts are the same"
        )


class Lowered(Rescue):
    """A fused rerun's program in bfloat16, from the same float32 dense values."""

    def __init__(self, fused: Rerun, program: Program | None = None) -> None:
        program = program or lowered(fused.program)
        # The source tells the sizes in float32: twice the samples are as many bytes.
        super().__init__(fused.bench, program, cut=True, source=fused, share=2)

    def _started(self, dense: Values) -> Values:
        return {name: _low(value) for name, value in dense.items()}


@torch.no_grad()
def lowered(program: Program) -> Program:
    """The same steps with bfloat16 between them, and in their products."""
    return replace(program, steps=tuple(map(_lowered, program.steps)))


def _lowered(step: Step) -> Step:
    if isinstance(step.call, (Convolution, Linear)):
        call = step.call.lowered()
        blanked = call.blanked if step.blanked else None
        return replace(step, call=call, adapted=call.adapted, blanked=blanked)
    return replace(step, call=_then_low(step.call, exactly=bool(step.weights)))


def _then_low(call: Callable[..., Any], exactly: bool) -> Callable[..., Any]:
    """The call, its result in bfloat16; off the CPU in float32 where it has `weights`.

    Norms on a GPU do not mix bfloat16 with weights of float32.
    """

    def run(*args: Any, **kwargs: Any) -> Any:
        if exactly and any(isinstance(a, Tensor) and a.device.type != "cpu" for a in args):
            args = tuple(a.float() if isinstance(a, Tensor) and a.dtype == LOW else a for a in args)
        return _low(call(*args, **kwargs))

    return run


def _low(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.to(LOW) if value.dtype == torch.float32 else value
    return tree_map_only(Tensor, _low, value)
