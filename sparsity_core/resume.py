"""A course that is saved on its way, and goes on where a process that died had saved it."""

from sparsity_core.checkpoint import UnderWay
from sparsity_core.course import Course, Place

_PART = 25  # steps between two looks at the clock; each part costs a small model 0.1 ms


def resume_(course: Course, under_way: UnderWay) -> list[float]:
    """Stand where the course was saved, if it was; the losses of the steps that are made."""
    if "place" not in under_way.found:
        return []
    with under_way.reading():
        course.go_to_(Place(**under_way.found["place"]))
        losses: list[float] = under_way.found["losses"]
    under_way.found = {}  # once: what is trained after it begins anew
    return losses


def advance_(course: Course, until: int, losses: list[float], under_way: UnderWay) -> None:
    """Train until so many steps are made; each step's loss is added to `losses`, which holds all.

    Saved is what is left to do, so never the last step: what follows it may change the model.
    """
    until = min(until, course.steps)
    while course.step < until:
        if under_way.due:
            under_way.save_(place=course.place().to_dict(), losses=losses)
        losses += course.advance_(min(course.step + _PART, until))
