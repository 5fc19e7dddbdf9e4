"""What the row of an early answer says about its question."""

from typing import Literal

from sparsity_core.sweep.point import Result
from sparsity_core.sweep.sequential import Question
from sparsity_core.sweep.trials import ENGINE

Said = Literal["at most", "more than", "narrow", "open"]


def stopped(row: Result) -> bool:
    """Is it settled, without having seen all samples?

    Then its loss has no interval. Nor has it for one sample, but a round sees one where it is all.
    """
    on_some = row.loss_rise_low is None and row.samples != 1
    return row.engine.startswith(ENGINE) and row.value is not None and on_some


def said(question: Question, row: Result) -> Said | None:
    """The answer, from the interval of the drop; None for a row without a number.

    A bound that has reached the threshold says so: that claim is the first to be tested.
    """
    if row.drop_low is None or row.drop_high is None:
        return None
    if question.threshold is None:
        return "narrow" if row.drop_high - row.drop_low <= (question.width or 0) else "open"
    if row.drop_high <= question.threshold:
        return "at most"
    return "more than" if row.drop_low >= question.threshold else "open"
