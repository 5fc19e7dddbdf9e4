"""The allocation in hand: bars to drag, what it keeps, what it should cost."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import streamlit as st

from app import cache
from app.allocation_rules import Ruled
from app.allocation_source import Share
from app.curve_names import label
from app.forms import manual_text
from app.state import Frame
from sparsity_core.allocations import Manual
from sparsity_core.sweep.forecast import Forecast
from sparsity_core.units import loss_in

_FILES = Path(__file__).parent
_KEY = "allocation-bars"


def draw_editor(frame: Frame, hand: Ruled, rules: list[Ruled]) -> None:
    """Bars of the sidebar's recipe; moving one makes it the manual allocation of all pages."""
    usable = {rule.name: rule for rule in rules if not rule.reason and rule.outcome.shares}
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    left.markdown(
        f"In hand is the sidebar's recipe: **{label(frame.recipe)}**. Drag a bar, move it with the "
        "arrow keys, or type a number: it becomes the allocation `manual`, on all pages."
    )
    with right:
        first, second = st.columns([3, 2], vertical_alignment="bottom")
        start = first.selectbox("Start from a rule", list(usable), key="alloc-start")
        if start:
            second.button(
                "Start from it", on_click=_take, args=[_as_manual(usable[start])], key="start from",
                width="stretch", icon=":material/input:",
                help=f"Takes what `{start}` gives at the target above into the sidebar.",
            )  # fmt: skip
    if hand.reason:
        st.error(f"{hand.reason}. Start from a rule, or mend the sidebar's recipe.")
        return
    counted_in = loss_in(cache.task(frame.model).loss)
    _draw_numbers(hand, counted_in)
    component = st.components.v2.component(
        "allocation_bars",
        html='<div class="box"><div class="rows"></div></div>',
        css=(_FILES / "allocation_bars.css").read_text(),
        js=(_FILES / "allocation_bars.js").read_text(),
    )
    fixed = frame.recipe.structure.fixed_sparsity
    component(
        key=_KEY,
        data={
            "rows": _rows(hand, cache.facts(frame.model).layers, counted_in),
            "only": None if fixed is None else 100 * fixed,
        },
        on_edited_change=partial(_take_edited, dict(hand.outcome.skipped)),
    )


def _draw_numbers(hand: Ruled, counted_in: str) -> None:
    outcome, forecast = hand.outcome, hand.forecast
    shares = outcome.shares
    weights, kept = sum(s.weights for s in shares), sum(s.kept for s in shares)
    macs, kept_macs = sum(s.macs for s in shares), sum(s.kept_macs for s in shares)
    columns = st.columns(3)
    columns[0].metric("Weights kept", f"{100 * kept / weights:.1f} %")
    columns[0].caption(f"{kept:,} of {weights:,}; sparsity {100 * outcome.total:.2f} %")
    columns[1].metric("Multiply-adds kept", f"{100 * kept_macs / macs if macs else 100:.1f} %")
    columns[1].caption(f"{kept_macs:,} of {macs:,} a sample: a count, not a speed")
    total = forecast.total if forecast else None
    columns[2].metric(
        "Forecast of the loss rise", "unknown" if total is None else f"{total:+.3f} {counted_in}"
    )
    columns[2].caption(_about(forecast, counted_in))


def _about(forecast: Forecast | None, counted_in: str) -> str:
    if forecast is None:
        return "No sweep of single layers to go by."
    if forecast.unknown:
        known = sum(forecast.rises.values())
        layer, why = next(iter(forecast.unknown.items()))
        others = len(forecast.unknown) - 1
        also = f", and {others} more layer{'s' if others > 1 else ''}" if others else ""
        text = f"Unknown for {layer} ({why}){also}."
        return f"{text} The others add up to {known:+.3f} {counted_in}." if forecast.rises else text
    worst = max(forecast.rises, key=forecast.rises.__getitem__, default=None)
    if worst is None or forecast.rises[worst] <= 0:
        return "The sum over layers pruned alone."
    return f"The sum over layers pruned alone; most from {worst}, {forecast.rises[worst]:+.3f}."


def _rows(hand: Ruled, layers: Iterable[str], counted_in: str) -> list[dict[str, Any]]:
    """What the component needs of each layer; those that are refused stand in their place."""
    shares = {share.layer: share for share in hand.outcome.shares}
    skipped = dict(hand.outcome.skipped)
    return [
        {
            "layer": layer,
            "percent": 100 * shares[layer].asked if layer in shares else 0,
            "says": _says(shares[layer], hand.forecast, counted_in)
            if layer in shares
            else f"stays dense: {skipped.get(layer, '')}",
            "refused": layer not in shares,
        }
        for layer in layers
    ]


def _says(share: Share, forecast: Forecast | None, counted_in: str) -> str:
    text = f"keeps {share.kept:,} of {share.weights:,}"
    if abs(share.asked - share.achieved) >= 0.0005:
        text += f" ({100 * share.achieved:.1f} % achieved)"
    if forecast and share.layer in forecast.rises:
        text += f"; alone {forecast.rises[share.layer]:+.3f} {counted_in}"
    elif forecast:
        text += "; alone: not measured so far out"
    return text


def _as_manual(rule: Ruled) -> Manual:
    return Manual(tuple((share.layer, share.asked) for share in rule.outcome.shares))


def _take_edited(skipped: dict[str, str]) -> None:
    """For the component's callback: what was dragged or typed becomes the sidebar's choice."""
    edited = st.session_state[_KEY]["edited"]
    if edited:
        _take(Manual(tuple((n, p / 100) for n, p in edited.items() if n not in skipped)))


def _take(manual: Manual) -> None:
    st.session_state["allocation"] = "manual"
    st.session_state["manual"] = manual_text(manual)
