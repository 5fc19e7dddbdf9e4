"""Attention that is written out, softmax(q k^T / c) v, as one step: the CPU has a call for it."""

import operator
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparsity_core.sweep.program import Program, Read, Step

_PRODUCTS = (torch.matmul, operator.matmul, torch.bmm)
_LAST = (-1, 3)


def with_attention(program: Program, shapes: Mapping[str, tuple[int, ...]]) -> Program:
    """The program with each such chain in one step; `shapes` of its values that are tensors."""
    steps = {step.name: step for step in program.steps}
    readers: dict[str, int] = {program.output: 1}
    for step in program.steps:
        for name in step.reads:
            readers[name] = readers.get(name, 0) + 1

    def made_by(argument: Any) -> Step | None:
        """The step behind an argument that nothing else reads."""
        alone = isinstance(argument, Read) and readers[argument.name] == 1
        return steps.get(argument.name) if alone else None

    gone: set[str] = set()
    fused: dict[str, Step] = {}
    for last in program.steps:
        if not _is_product(last) or not (soft := made_by(last.args[0])) or not _is_softmax(soft):
            continue
        scaled = made_by(soft.args[0])
        if not scaled or scaled.call is not operator.truediv or len(scaled.args) != 2:
            continue
        first, divisor = made_by(scaled.args[0]), scaled.args[1]
        number = not isinstance(divisor, Read) or divisor.name not in shapes
        if not first or not _is_product(first) or not number:
            continue
        arguments = (*first.args, last.args[1], divisor)
        if not all(isinstance(a, Read) and len(shapes.get(a.name, ())) == 4 for a in arguments[:3]):
            continue
        gone |= {first.name, scaled.name, soft.name}
        fused[last.name] = replace(last, call=_attend, args=arguments, kwargs={})
    kept = (fused.get(s.name, s) for s in program.steps if s.name not in gone)
    return replace(program, steps=tuple(kept))


def _attend(queries: Tensor, keys: Tensor, values: Tensor, divisor: float) -> Tensor:
    """Shapes (N, heads, tokens, width), keys (N, heads, width, tokens)."""
    keys = keys.transpose(-2, -1)
    return F.scaled_dot_product_attention(queries, keys, values, scale=1 / divisor)


def _is_product(step: Step) -> bool:
    return step.call in _PRODUCTS and len(step.args) == 2 and not step.kwargs


def _is_softmax(step: Step) -> bool:
    return type(step.call) is nn.Softmax and step.call.dim in _LAST
