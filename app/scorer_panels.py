"""The parts of the Scorers page: two scorers in words and bars, where they agree, all in ranks."""

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from app import export, overlap_charts, scorer_charts
from app.about import entry
from app.mask_view import agreement, matrix_of
from app.scorer_form import A, B, Pair
from app.scorer_source import SCORE_SAMPLES, Judgement
from app.scorer_view import correlations, cut, histogram, ranks, sampled
from sparsity_core.scorers import SCORERS, Scorer

_DRAWN = 1500  # units of the scatter: more would lie on each other
_TAKEN = "scorers taken"  # a click into the matrix, which the rest of the page has not seen yet


def draw_card(kind: str) -> None:
    """What a scorer is, in its own words: docstring, formula, source, what it needs."""
    scorer = SCORERS.make(kind)
    st.markdown(entry(SCORERS, kind))
    said = inspect.cleandoc(type(scorer).score.__doc__ or "").removesuffix(".")
    st.code(said, language=None, wrap_lines=True)
    st.caption(" · ".join(_facts(scorer)))


def draw_histogram(judged: Judgement, letter: str, unit: str, layer: str, python: str) -> None:
    """The layer's scores, and where the sparsity cuts."""
    kind = SCORERS.label(judged.scorer)
    found = histogram(judged.values, judged.chosen)
    where = cut(judged.values, judged.chosen)
    chart = scorer_charts.histogram(found, where, f"{kind} score of {layer}", unit)
    name = f"scores-{letter}-{layer}"
    table = pd.DataFrame({"score": judged.values, "kept": judged.chosen})
    export.show(chart, table, name, python=python, key=f"histogram {letter}")
    notes = [f"{len(judged.values):,} {unit}, {int((~judged.chosen).sum()):,} of them pruned."]
    if where is not None:
        notes.append(f"Dashed: the cut, {where:.3g}.")
        tied = judged.values == where
        if (tied & ~judged.chosen).any():
            notes.append(f"{int(tied.sum()):,} lie on it; the first of them stay.")
    elif judged.chosen.any() and not judged.chosen.all():
        notes.append("No single cut: they are compared within rows or groups.")
    if found.axis != "linear":
        apart = ", zero in a bar of its own" if found.axis == "log" and found.zeros else ""
        notes.append(f"{found.axis.capitalize()} axis{apart}.")
    notes.append(f"Exactly zero: {found.zeros:,}; negative: {found.negative:,}.")
    if found.below:
        notes.append(f"{found.below:,} lie left of the axis and are in its first bar.")
    st.caption(" ".join(notes))


def draw_agreement(
    a: Judgement, b: Judgement, pair: Pair, layer: str, share: float, unit: str, python: str
) -> None:
    """Who keeps what: one bar in counts, beside chance; every unit by both ranks."""
    found = agreement(matrix_of(a.mask), matrix_of(b.mask))
    counts = {
        "kept by both": found.both,
        "only A": found.only_a,
        "only B": found.only_b,
        "kept by none": found.neither,
        "Jaccard": found.jaccard,
        "Jaccard by chance": found.by_chance,
    }
    left, right = st.columns([2, 3])
    with left:
        st.dataframe(
            pd.DataFrame({"": list(counts), "weights": map(_said, counts.values())}),
            hide_index=True,
        )
        bar = overlap_charts.overlap_by_layer({layer: found})
        table = pd.DataFrame([{"layer": layer, "A": pair.a, "B": pair.b} | counts])
        export.show(bar, table, f"agreement-{layer}", python=python, key="agreement")
        st.caption(
            "Jaccard = kept by both over kept by any, in weights; by chance = what two random "
            "masks with as many kept weights would show."
        )
    with right:
        points = _points(a, b)
        line = share if cut(a.values, a.chosen) is not None else None
        line = line if cut(b.values, b.chosen) is not None else None
        chart = scorer_charts.rank_scatter(points, pair.a, pair.b, line)
        export.show(chart, points, f"ranks-{layer}", python=python, key="ranks")
        shown = f"{len(points):,} of {len(a.values):,} {unit}, drawn at random"
        st.caption(
            f"{shown if len(points) < len(a.values) else f'All {len(points):,} {unit}'}. "
            + ("Dashed: the cut of either. " if line is not None else "")
            + "Equal scores share a rank."
        )


def draw_matrix(
    judged: Mapping[str, Judgement | None],
    refused: Mapping[str, str],
    pair: Pair,
    unit: str,
    layer: str,
    python: str,
) -> None:
    """All scorers against each other; those without scores stay empty, with the reason below."""
    known = {kind: found for kind, found in judged.items() if found is not None}
    some = next(iter(known.values()), None)
    if some is None:
        st.info("No scorer has scored this layer yet.")
    else:
        places = sampled(len(some.values))
        ordered = {k: found.units[places] for k, found in known.items()}
        table = correlations(ordered).reindex(index=list(judged), columns=list(judged))
        listed = table.rename_axis("scorer").reset_index()
        export.show(
            scorer_charts.matrix(table, pair.a, pair.b), listed, f"correlation-{layer}",
            python=python, on_select=_take, key="matrix",
        )  # fmt: skip
        few = (
            f" ({len(places):,} of them, drawn at random)" if len(places) < len(some.values) else ""
        )
        st.caption(
            f"Spearman's rank correlation over the {len(some.values):,} {unit} of {layer}{few}, "
            f"scored on {SCORE_SAMPLES} train samples where data is needed. Scores that mean "
            "something within a row only are ranked by their place in it. "
            "Click a cell to take its row as A and its column as B."
        )
    for reason, kinds in _by_reason(refused).items():
        st.caption(f"**{', '.join(kinds)}**: {reason}")


def taken() -> bool:
    """Was a cell clicked since the last full run? Then the page above has to follow."""
    return bool(st.session_state.pop(_TAKEN, False))


def _take(selection: Mapping[str, Any]) -> None:
    if clicked := selection.get("pair"):
        st.session_state[A], st.session_state[B] = clicked[0]["row"], clicked[0]["column"]
        st.session_state[_TAKEN] = True


def _facts(scorer: Scorer) -> list[str]:
    return [
        f"scored on {SCORE_SAMPLES} train samples" if scorer.needs_data else "needs no data",
        "ranks single weights" if scorer.ranks == "weights" else "ranks whole outputs",
        *["compared within rows only"] * (scorer.comparable_within == "row"),
    ]


def _points(a: Judgement, b: Judgement) -> pd.DataFrame:
    places = sampled(len(a.values))
    table = pd.DataFrame(
        {
            "unit": places,
            "a": ranks(a.units[places]),
            "b": ranks(b.units[places]),
            "score a": a.values[places],
            "score b": b.values[places],
        }
    )
    in_a, in_b = a.chosen[places], b.chosen[places]
    table["kept by"] = np.select([in_a & in_b, in_a, in_b], list(overlap_charts.PARTS), "none")
    return table if len(table) <= _DRAWN else table.sample(_DRAWN, random_state=0).sort_index()


def _by_reason(refused: Mapping[str, str]) -> dict[str, list[str]]:
    """Scorers that share a reason, told by it without their own name in it."""
    found: dict[str, list[str]] = {}
    for kind, reason in refused.items():
        found.setdefault(reason.replace(f" by {kind}", " by this scorer"), []).append(kind)
    return found


def _said(value: float | None) -> str:
    if value is None:
        return "nothing kept"
    return f"{value:.3f}" if isinstance(value, float) else f"{value:,}"
