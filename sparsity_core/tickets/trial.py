"""One training of a plan: where it starts, under which masks, and what comes of it.

A trial is a function of its point alone, and so are those that it builds on: what a chain needs
of an earlier round is read from a file or trained again, with the same numbers either way.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sparsity_core import checkpoint
from sparsity_core.course import Course, Place
from sparsity_core.data import Split
from sparsity_core.digest import digest_of
from sparsity_core.repairs import BatchNorm, Damage
from sparsity_core.setting import draw_batches, evaluation_samples
from sparsity_core.structures import Unstructured
from sparsity_core.task import Task
from sparsity_core.tickets.arm import ARMS
from sparsity_core.tickets.before import masks_before_training
from sparsity_core.tickets.behaviour import behaviour_of
from sparsity_core.tickets.connectivity import line_between
from sparsity_core.tickets.corrupt import corrupted
from sparsity_core.tickets.fresh import fresh_model
from sparsity_core.tickets.row import MEASURED, TEXTS, TicketResult
from sparsity_core.tickets.rule import shuffled
from sparsity_core.tickets.watched import State, Watched, train_watched_
from sparsity_core.train import Evaluation, evaluate
from sparsity_core.weights import Masks, prunable, sparsity_of

if TYPE_CHECKING:
    from sparsity_core.tickets.plan import TicketPlan, TicketPoint

Look = Callable[[nn.Module], Evaluation]

_DIGITS = 6  # of what is kept of a history


@dataclass(frozen=True, eq=False)
class End:
    """Where a round of a chain ended: what the next one starts from."""

    state: State
    masks: Masks
    row: TicketResult


def measure(task: Task, plan: "TicketPlan", point: "TicketPoint") -> TicketResult:
    """The row of a point; its training goes on from where a process that died had saved it."""
    return end_of(task, plan, point).row


def end_of(task: Task, plan: "TicketPlan", point: "TicketPoint") -> End:
    """The trained network of a point, from its file when it is there; masks and weights too."""
    if saved := saved_end(plan, point):
        return saved
    course = start_of(task, plan, point)
    seen = train_watched_(course, task.validation, task.metric, plan.every, _under_way(point))
    row = _row(task, plan, point, course, seen)
    end = End(course.state(), course.masks, row)
    if ARMS[point.arm].chain:
        found = {name: getattr(row, name) for name in _FOUND}
        checkpoint.save(point.id, {"state": end.state, "masks": end.masks, "row": found})
    checkpoint.delete(_under_way(point))
    return end


def saved_end(plan: "TicketPlan", point: "TicketPoint") -> End | None:
    """The trained network of a chain's point from its file; None when there is none yet."""
    saved = checkpoint.load(point.id)
    if saved is None:
        return None
    row = replace(plan.unmeasured(point, "ok", ""), **saved["row"])
    return End(saved["state"], saved["masks"], row)


def seen_so_far(point: "TicketPoint") -> Watched | None:
    """What a training that is under way has seen when it was last saved; None when there is none.

    Cheap enough to ask every few seconds, from any process.
    """
    saved = checkpoint.load(_under_way(point))
    return Watched(**saved["seen"]) if saved else None


def masks_of(task: Task, plan: "TicketPlan", point: "TicketPoint") -> Masks:
    """What the point trains under; of chains the round before must be there or is trained."""
    if point.round == 0 or point.arm == "dense":
        return {}
    if ARMS[point.arm].scorer:
        return masks_before_training(task, plan, point)
    if point.arm == "one-shot":
        dense = end_of(task, plan, plan.point(point.seed, "ticket", 0, 0))
        masks: Masks = {}
        for _ in range(point.round):  # the same counts, all from the dense network
            masks = plan.rule.masks(_weights(task, dense.state), masks)
        return masks
    before = end_of(task, plan, _before(plan, point))
    masks = plan.rule.masks(_weights(task, before.state), before.masks)
    return shuffled(masks, _own_seed(point)) if point.arm in ("shuffled", "random") else masks


def start_of(task: Task, plan: "TicketPlan", point: "TicketPoint") -> Course:
    """A course before its first step."""
    # New weights have no early steps to go back to: they train from the very start. So do masks
    # that were found there.
    anew = point.arm in ("reinitialised", "random")
    order = _own_seed(point) if point.arm == "other-order" else point.seed
    course = Course(
        fresh_model(task, _own_seed(point) if anew else point.seed),
        _samples_of(task, point),
        plan.training,
        loss=task.loss,
        masks=masks_of(task, plan, point),
        seed=order,
        device=plan.device,
    )
    if point.arm in ("rate-rewinding", "dense"):
        ended = end_of(task, plan, _before(plan, point))
        course.go_to_(replace(course.place(), step=point.rewind, model=ended.state))
    elif point.arm == "other-order":
        course.go_to_(_early_place(task, plan, point), same_order=False)
    elif not anew and not ARMS[point.arm].scorer and point.rewind and point.round:
        course.go_to_(_early_place(task, plan, point))
    return course


def _early_place(task: Task, plan: "TicketPlan", point: "TicketPoint") -> Place:
    """Where the dense training stood at the rewind step, momentum and statistics included."""
    course = Course(
        fresh_model(task, point.seed),
        _samples_of(task, point),
        plan.training,
        loss=task.loss,
        seed=point.seed,
        device=plan.device,
    )
    course.advance_(point.rewind)
    return course.place()


def _before(plan: "TicketPlan", point: "TicketPoint") -> "TicketPoint":
    """The point of a chain that this one builds on; chains begin with the dense ticket.

    But for the one on corrupted data, which begins with a dense training of its own.
    """
    if point.arm in ("corrupted", "corrupted-finder"):
        arm = "corrupted-finder"
    else:
        arm = point.arm if ARMS[point.arm].chain and point.round > 1 else "ticket"
    return plan.point(point.seed, arm, point.rewind, point.round - 1)


def _samples_of(task: Task, point: "TicketPoint") -> Split:
    return corrupted(task.train, point.seed) if point.arm == "corrupted-finder" else task.train


def _row(
    task: Task, plan: "TicketPlan", point: "TicketPoint", course: Course, seen: Watched
) -> TicketResult:
    samples = evaluation_samples(task, plan.setting)
    look = partial(evaluate, split=samples, loss=task.loss, metric=task.metric, device=plan.device)
    connected = _connected(task, plan, point, course, look) if point.arm == "other-order" else {}
    last = look(course.model)
    behaves = behaviour_of(course.model, samples, plan.device)
    ended = course.state()
    course.model.load_state_dict(seen.best)
    early = look(course.model)
    course.model.load_state_dict(ended)
    emptied = [name for name, mask in course.masks.items() if not mask.any()]
    message = f"no weight left in {', '.join(emptied)}" if emptied else ""
    return replace(
        plan.unmeasured(point, "collapsed" if emptied else "ok", message),
        sparsity=_sparsity(course),
        value=last.value,
        early_value=early.value,
        early_stop=seen.early_stop,
        loss=last.loss,
        validation_loss=min(seen.losses),
        train_loss=seen.train_losses[-1],
        **connected,
        **behaves,
        history=json.dumps(
            {
                "step": seen.steps,
                "train_loss": _rounded(seen.train_losses),
                "loss": _rounded(seen.losses),
                "value": _rounded(seen.values),
            }
        ),
        samples=len(samples),
    )


def _connected(
    task: Task, plan: "TicketPlan", point: "TicketPoint", course: Course, look: Look
) -> dict[str, Any]:
    """The line from the ticket to its twin in another order."""
    twin = end_of(task, plan, plan.point(point.seed, "ticket", point.rewind, point.round))
    ends = (course.model, twin.state, course.state(), look, task.metric)
    line = line_between(*ends)
    found = {"barrier": line.barrier, "line": json.dumps(_rounded(line.values))}
    if not any(isinstance(module, _BatchNorm) for module in course.model.modules()):
        return found
    batches = draw_batches(task.train, plan.setting.score_samples, point.seed, plan.device)
    damage = Damage(course.model, course.masks, Unstructured(), batches)
    mended = line_between(*ends, mend_=lambda model: BatchNorm().repair_(model, damage))
    return found | {"barrier_recalibrated": mended.barrier}


def _weights(task: Task, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: state[name] for name in prunable(task.model)}


def _sparsity(course: Course) -> float:
    layers = prunable(course.model)
    zeros = sum(
        sparsity_of(course.masks[name]) * layer.size
        for name, layer in layers.items()
        if name in course.masks
    )
    return zeros / sum(layer.size for layer in layers.values())


def _under_way(point: "TicketPoint") -> str:
    return checkpoint.under_way(point.id)


def _own_seed(point: "TicketPoint") -> int:
    """A seed for what must not be the ticket's: other weights, another mask, another order."""
    return int(digest_of([point.seed, point.arm, point.rewind, point.round])[:12], 16)


def _rounded(values: Iterable[float | None]) -> list[float | None]:
    return [None if value is None else round(value, _DIGITS) for value in values]


_FOUND = (*MEASURED, *TEXTS, "status", "message")
