"""What a sweep has to answer, and how: every sample or an early answer, by which engine."""

from typing import Any

import streamlit as st

from app.forms import warn_of_unknown
from sparsity_core.sweep.plan import ENGINES, FAST, SAMPLERS
from sparsity_core.sweep.rerun import BUDGET

MEBI = 2**20
_EXACT = FAST["fast"]
_ENGINES = (_EXACT, *(name for name in ENGINES if name != _EXACT))
_WORDS = {
    "exact": "`exact` (the usual one): runs again only what a layer reaches, with operations "
    "fused. Every prediction counts as the model's own; losses agree but for rounding.",
    "bitwise": "`bitwise`: the model's own operations, every output to the last bit.",
    "verified": "`verified`: in 16 bits, close calls again in 32, and a share of the rest "
    "checked; losses are approximate.",
    "reference": "`reference`: the whole model for every point, the slow way that the others "
    "are tested against.",
}


def choose_engine(early: bool) -> dict[str, Any]:
    """Engine and memory, as `plan_sweep` takes them."""
    engines = [name for name in _ENGINES if not early or name in SAMPLERS]
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
