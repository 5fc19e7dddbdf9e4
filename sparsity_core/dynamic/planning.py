"""From choices to a plan of moving masks: every number is checked before anything is trained."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sparsity_core.allocations import ALLOCATIONS, ERK, Allocation
from sparsity_core.batches import batch_sizes
from sparsity_core.dynamic.budgets import budgets_of
from sparsity_core.dynamic.fixed import Dense, Static
from sparsity_core.dynamic.plan import MovingPlan
from sparsity_core.dynamic.rule import UpdateRule
from sparsity_core.dynamic.sparse_course import why_not_sparse
from sparsity_core.errors import SparsityError, unknown
from sparsity_core.recipe import Training
from sparsity_core.setting import setting_of
from sparsity_core.task import Task
from sparsity_core.tickets.fresh import origin
from sparsity_core.weights import check_sparsity

DISTRIBUTIONS = ("erk", "er", "uniform", "uniform-plus")  # those that go by shapes alone
EXECUTIONS = ("simulated", "sparse")
_LOOKS = 40  # when nothing else is asked for


def plan_moving(
    task: Task,
    *,
    training: Training,
    rules: Sequence[UpdateRule],
    sparsities: Sequence[float],
    allocation: Allocation | None = None,
    seeds: Sequence[int] = (0,),
    skip: Sequence[str] = (),
    every: int | None = None,
    matched: bool = False,
    execution: str = "simulated",
    split: str = "test",
    **where: Any,
) -> MovingPlan:
    """A plan with every number checked; `where` goes to `setting_of`.

    The controls, dense and static, are always among the rules. `every` steps (a fortieth of the
    training when None) the validation split is looked at; `split` reports at the end. Raises
    SparsityError for an empty selection, bad numbers, or what cannot be run sparsely.
    """
    for what, chosen in (("rules", rules), ("sparsities", sparsities), ("seeds", seeds)):
        if not len(chosen):
            raise SparsityError(f"no {what} chosen; choose at least one")
    shares = tuple(dict.fromkeys(check_sparsity(share) for share in sparsities))
    allocation = allocation or ERK()
    if (kind := ALLOCATIONS.kind_of(allocation)) not in DISTRIBUTIONS:
        raise unknown("distribution", kind, DISTRIBUTIONS)
    if execution not in EXECUTIONS:
        raise unknown("execution", execution, EXECUTIONS)
    steps = training.steps
    if steps is None:
        steps = training.epochs * len(batch_sizes(task.model, task.train, training.batch_size))
    if steps < 1:
        raise SparsityError("moving masks need at least one step; raise epochs or steps")
    if every is not None and every < 1:
        raise SparsityError(f"every must be 1 or more steps, got {every}")
    every_rule = tuple(dict.fromkeys([Dense(), Static(), *rules]))
    for rule in every_rule:
        if not rule.learns_sparsity:
            for share in shares if rule.fixed_sparsity is None else (rule.fixed_sparsity,):
                budgets_of(task.model, rule, allocation, share, skip)
    setting = setting_of(task, split=split, **where)
    if execution == "sparse":
        _check_sparse(task, every_rule, setting.device, matched)
    return MovingPlan(
        setting=setting,
        **origin(task),
        # Steps and epochs that mean the same are one plan.
        training=replace(training, epochs=Training().epochs, steps=steps),
        rules=every_rule,
        sparsities=shares,
        allocation=allocation,
        every=every or max(1, steps // _LOOKS),
        seeds=tuple(dict.fromkeys(seeds)),
        skip=tuple(skip),
        matched=matched,
        execution=execution,
    )


def _check_sparse(task: Task, rules: Sequence[UpdateRule], device: str, matched: bool) -> None:
    """Raise SparsityError for what the sparse layers cannot do."""
    if device != "cpu" or matched:
        raise SparsityError("sparse execution is for a CPU, without matching; choose simulated")
    for rule in rules:
        reason = None if isinstance(rule, Dense) else why_not_sparse(task.model, rule)
        if reason:
            raise SparsityError(f"cannot train sparsely: {reason}; choose simulated")
