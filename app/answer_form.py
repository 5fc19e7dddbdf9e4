"""What a sweep has to answer, and how: every sample or an early answer, by which engine."""

from typing import Any

import streamlit as st

from app.forms import warn_of_unknown
from sparsity_core.metrics import is_share
from sparsity_core.sweep.engines import ENGINES, FAST, SAMPLERS
from sparsity_core.sweep.rerun import BUDGET
from sparsity_core.sweep.sequential import Question
from sparsity_core.sweep.ways import EXACT

MEBI = 2**20
_ANSWERS = ("every sample", "drop over", "drop within")
_ENGINES = (FAST, *sorted(ENGINES, key=lambda name: name != EXACT))
_WORDS = {
    "fast": "`fast` (the usual one): `exact`; for early answers `verified`, where the processor is "
    "quick at that.",
    "exact": "`exact`: runs again only what a layer reaches, with operations "
    "fused. Every prediction counts as the model's own; losses agree but for rounding.",
    "bitwise": "`bitwise`: the model's own operations, every output to the last bit.",
    "verified": "`verified`: in 16 bits, close calls again in 32, and a share of the rest "
    "checked; losses are approximate.",
    "reference": "`reference`: the whole model for every point, the slow way that the others "
    "are tested against.",
}


def choose_question(metric: str) -> Question | None:
    """The question about a metric that points answer early; None for exact numbers."""
    if not is_share(metric):
        st.caption(f"Early answers need a share of right answers; {metric} is none.")
        return None
    left, middle, right = st.columns(3, vertical_alignment="bottom")
    warn_of_unknown("sweep-answer", _ANSWERS)
    answer = left.selectbox(
        "Answer", _ANSWERS, key="sweep-answer", bind="query-params",
        help="`every sample`: exact numbers. `drop over`: each point stops as soon as it is sure "
        "whether its drop is over so many points. `drop within`: as soon as the drop is known to "
        "so many points. On a big model ask for an early answer first: it comes many times "
        "sooner, and single points can be measured in full afterwards.",
    )  # fmt: skip
    if answer == _ANSWERS[0]:
        return None
    asked = middle.number_input(
        f"Points of {metric}", 0.1, 100.0, 1.0, 0.5, key="sweep-asked", bind="query-params",
        help="1 point: 90 % becomes 89 %.",
    )  # fmt: skip
    error = right.number_input(
        "Error rate of the whole sweep (%)", 0.1, 50.0, 5.0, 1.0, key="sweep-error",
        bind="query-params",
        help="The chance that any answer of the sweep is wrong is at most this, whenever you look.",
    )  # fmt: skip
    share = round(asked / 100, 6)
    rate = round(error / 100, 6)
    if answer == _ANSWERS[1]:
        return Question(threshold=share, error=rate)
    return Question(width=share, error=rate)


def answer_view(question: Question | None) -> dict[str, Any] | None:
    """What the form has to hold to ask a question; None when it cannot."""
    if question is None:
        return {"sweep-answer": _ANSWERS[0]}
    over = question.threshold is not None
    asked = round(100 * ((question.threshold if over else question.width) or 0), 4)
    error = round(100 * question.error, 4)
    if question.order or not (0.1 <= asked <= 100 and 0.1 <= error <= 50):
        return None
    return {
        "sweep-answer": _ANSWERS[1 if over else 2],
        "sweep-asked": asked,
        "sweep-error": error,
    }


def choose_engine(early: bool) -> dict[str, Any]:
    """Engine and memory, as `plan_sweep` takes them."""
    engines = [name for name in _ENGINES if not early or name in (FAST, *SAMPLERS)]
    warn_of_unknown("sweep-engine", engines)
    engine = st.selectbox(
        "Engine", engines, key="sweep-engine", bind="query-params",
        help="  \n".join(_WORDS.get(name, f"`{name}`") for name in engines),
    )  # fmt: skip
    memory = st.number_input(
        "Memory for kept values (MiB)", 0, 64 * 1024, BUDGET // MEBI, key="sweep-memory",
        bind="query-params", disabled=engine == "reference",
        help="What the dense model has computed before a layer is kept up to this size, in each "
        "worker; with less it is computed again. Changes no number.",
    )  # fmt: skip
    return {"engine": engine, "memory": int(memory) * MEBI}
