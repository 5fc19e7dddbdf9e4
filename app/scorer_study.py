"""One layer under all chosen scorers: what is known so far, drawn again while more arrive."""

from dataclasses import dataclass

import streamlit as st

from app import scorer_panels as panels
from app.fragment import redraw
from app.live import duration
from app.scorer_form import Pair, units_word
from app.scorer_source import Board, Judgement
from app.scorer_words import scores_python
from sparsity_core.errors import NonFiniteError
from sparsity_core.prune import refusals
from sparsity_core.recipe import Recipe
from sparsity_core.scorers import SCORERS

_EVERY = 0.7  # seconds between two looks while scorers are at work


@dataclass(frozen=True, eq=False)
class Study:
    """Which layer of which model, how sparse, and who is asked."""

    model: str
    board: Board
    recipe: Recipe
    layer: str
    share: float
    pair: Pair
    compared: list[str]
    every: bool  # score them all, however long it takes

    @property
    def kinds(self) -> list[str]:
        """All scorers that the page shows, in the registry's order."""
        shown = {self.pair.a, self.pair.b, *self.compared}
        return [kind for kind in SCORERS if kind in shown]

    @property
    def refused(self) -> dict[str, str]:
        """Those that cannot judge the layer -> why."""
        found = {
            kind: self.board.refusal(SCORERS.make(kind), self.recipe.structure, self.layer)
            for kind in self.kinds
        }
        return {kind: reason for kind, reason in found.items() if reason}

    @property
    def refused_everywhere(self) -> list[str]:
        """Those that no layer can have with this structure."""
        probe, structure = self.board.ready.result(), self.recipe.structure
        return [
            kind
            for kind in self.kinds
            if len(refusals(probe, SCORERS.make(kind), structure)) == len(probe.layers)
        ]

    def ask(self) -> None:
        """Have the scores made that are not there yet: A and B first."""
        able = [kind for kind in self.kinds if kind not in self.refused]
        first = [kind for kind in (self.pair.a, self.pair.b) if kind in able]
        must = [*first, *able] if self.every else first
        self.board.ask([SCORERS.make(k) for k in able], [SCORERS.make(k) for k in must])


def draw_study(study: Study) -> None:
    """Everything about the layer; again every moment while scorers are at work."""
    study.ask()
    study.board.wait(study.pair.scorers)
    busy = _at_work(study)

    def look() -> bool:
        study.ask()
        _draw(study)
        return panels.taken() or (busy and not _at_work(study))

    redraw(look, _EVERY if busy else None)


def _draw(study: Study) -> None:
    judged, without = _judgements(study)
    pair, layer = study.pair, study.layer
    weights = study.board.ready.result().weights[layer].numel()
    count = next((len(found.values) for found in judged.values() if found), weights)
    unit = units_word(study.recipe, count, weights)

    def python(*kinds: str) -> str:
        return scores_python(study.model, layer, kinds, study.recipe.structure, study.share)

    both = list(zip("AB", (pair.a, pair.b), strict=True))
    for column, (letter, kind) in zip(st.columns(2), both, strict=True):
        with column:
            st.subheader(f"{letter}: {kind}")
            panels.draw_card(kind)
    for column, (letter, kind) in zip(st.columns(2), both, strict=True):
        with column:
            if found := judged.get(kind):
                panels.draw_histogram(found, letter, unit, layer, python(kind))
            else:
                st.info(without.get(kind) or f"{kind} is being scored ...")
    st.header("Where they agree")
    a, b = judged.get(pair.a), judged.get(pair.b)
    if a and b:
        words = python(pair.a, pair.b)
        panels.draw_agreement(a, b, pair, layer, study.share, unit, words)
    else:
        st.info("Needs the scores of both.")
    st.header("All scorers")
    _say_progress(study, judged)
    idle = _left_out(study)
    judged = {kind: found for kind, found in judged.items() if kind not in idle}
    known = [kind for kind, found in judged.items() if found]
    panels.draw_matrix(judged, without, pair, unit, layer, python(*known))


def _judgements(study: Study) -> tuple[dict[str, Judgement | None], dict[str, str]]:
    """What each scorer of the matrix says, None where nothing yet or ever; reasons of the latter.

    Scorers that no layer can have with this structure are only in the second.
    """
    refused = study.refused
    judged: dict[str, Judgement | None] = {}
    without: dict[str, str] = {}
    structure = study.recipe.structure
    for kind in study.kinds:
        scorer = SCORERS.make(kind)
        if kind in refused:
            without[kind] = f"{study.layer} {refused[kind]}"
            if scorer.ranks == "weights" or structure.removes_outputs:
                judged[kind] = None
            continue
        judged[kind] = None
        if (trouble := study.board.trouble(scorer)) is None:
            continue
        if trouble:
            without[kind] = trouble
            continue
        try:
            judged[kind] = study.board.judge(scorer, structure, study.layer, study.share)
        except NonFiniteError as error:
            without[kind] = str(error)
    return judged, without


def _at_work(study: Study) -> bool:
    return any(study.board.under_way(SCORERS.make(kind)) for kind in study.kinds)


def _left_out(study: Study) -> list[str]:
    """Those that could judge the layer, but are not scored and not about to be."""
    board, refused = study.board, study.refused
    able = [(kind, SCORERS.make(kind)) for kind in study.kinds if kind not in refused]
    return [k for k, s in able if board.trouble(s) is None and not board.under_way(s)]


def _priced(study: Study, kinds: list[str]) -> list[str]:
    """Names with the time that each would take, where it is known."""
    prices = {kind: study.board.prices.get(SCORERS.make(kind)) for kind in kinds}
    return [f"{k} (up to {duration(price)})" if price else k for k, price in prices.items()]


def _say_progress(study: Study, judged: dict[str, Judgement | None]) -> None:
    able = [kind for kind in judged if kind not in study.refused]
    coming = [kind for kind in able if study.board.under_way(SCORERS.make(kind))]
    left = _left_out(study)
    if coming:
        done = len(able) - len(coming) - len(left)
        st.caption(
            f":material/hourglass_top: {done} of {len(able)} scored; {coming[0]} is at work."
        )
    if left:
        st.caption(
            f"Not scored, to save time: {', '.join(_priced(study, left))}. Switch on *Score all* "
            "to have them, or choose one as A or B."
        )
