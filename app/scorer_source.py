"""What all scorers say of a model: one after another in the background, each once."""

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial
from threading import Lock

import numpy as np
import streamlit as st
from torch import Tensor

from app import cache
from app.cache import PATIENCE
from sparsity_core.copied import copied
from sparsity_core.errors import SparsityError
from sparsity_core.machine import resolve_device
from sparsity_core.probe import Probe
from sparsity_core.prune import checked_scores, masks_from_units, refusals, unit_scores
from sparsity_core.scorers import SCORERS, Scorer
from sparsity_core.setting import draw_batches
from sparsity_core.structures import Structure
from sparsity_core.task import Task

SCORE_SAMPLES = 512  # as `run` and `plan_curve` take, so that masks here are those measured
BUDGET = 30.0  # seconds of scoring that a page spends on a model without being told to
_FEW = 16  # samples that tell what all of them would cost


@dataclass(frozen=True, eq=False)
class Judgement:
    """A scorer's word on one layer."""

    scorer: Scorer
    values: np.ndarray  # scores of units, as scored
    units: np.ndarray  # the same as the structure compares them; higher = keep
    chosen: np.ndarray  # True = the unit stays
    mask: Tensor  # True = the weight stays


@dataclass(eq=False)
class Board:
    """The scores of one model. One thread makes them: a probe is not made for two.

    Holds one number a weight for each scorer.
    """

    task: Task
    device: str
    spent: float = 0.0  # seconds of scoring so far
    prices: dict[Scorer, float] = field(default_factory=dict)  # seconds that one would take
    _answers: "dict[Scorer, Future[str]]" = field(default_factory=dict)
    _waiting: list[Scorer] = field(default_factory=list)
    _must: set[Scorer] = field(default_factory=set)
    _lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sparsity-scores")
        self.judge = lru_cache(maxsize=48)(self._judge)
        self.ready: Future[Probe] = self._thread.submit(self._prepare)

    def ask(self, scorers: Sequence[Scorer], must: Sequence[Scorer]) -> None:
        """Have these scored: `must` first and in any case, the others while the budget lasts."""
        with self._lock:
            self._must.update(must)
            for scorer in (*must, *scorers):
                affordable = self.spent + self.prices.get(scorer, 0.0) < BUDGET
                affordable |= scorer in self._must
                if scorer not in self._answers and affordable:
                    self._answers[scorer] = Future()
                    self._waiting.append(scorer)
                    self._thread.submit(self._next)
            first = [scorer for scorer in must if scorer in self._waiting]
            self._waiting = first + [s for s in self._waiting if s not in first]

    def under_way(self, scorer: Scorer) -> bool:
        """Was it asked for, and is not there yet?"""
        with self._lock:
            answer = self._answers.get(scorer)
            return answer is not None and not answer.done()

    def trouble(self, scorer: Scorer) -> str | None:
        """Empty when it is scored; what went wrong; None when it is not scored yet."""
        with self._lock:
            answer = self._answers.get(scorer)
            return answer.result() if answer is not None and answer.done() else None

    def wait(self, scorers: Sequence[Scorer]) -> None:
        """A moment's patience, so that what is quick is there on the first screen."""
        wait([self._answers[s] for s in scorers if s in self._answers], timeout=PATIENCE)

    def refusal(self, scorer: Scorer, structure: Structure, layer: str) -> str | None:
        """Why a layer cannot be judged, or None when it can."""
        return refusals(self.ready.result(), scorer, structure).get(layer)

    def _judge(
        self, scorer: Scorer, structure: Structure, layer: str, sparsity: float
    ) -> Judgement:
        """What a scorer that has scored says of a layer that it does not refuse.

        Raises NonFiniteError for scores that are NaN or infinite.
        """
        probe = self.ready.result()
        scores = checked_scores(probe, scorer, [layer])[layer]
        units = unit_scores(probe, layer, scores, scorer, structure)
        values = scorer.pool(scores, structure.of(probe.layers[layer]).units)
        mask = masks_from_units(probe.layers[layer], units, structure, sparsity)[layer]
        return Judgement(
            scorer=scorer,
            values=values.detach().cpu().double().reshape(-1).numpy(),
            units=units.cpu().double().reshape(-1).numpy(),
            chosen=structure.choose(units, sparsity).cpu().reshape(-1).numpy(),
            mask=mask.cpu(),
        )

    def _prepare(self) -> Probe:
        """The probe, and which layers each scorer refuses: pages ask for that at once."""
        batches = draw_batches(self.task.train, SCORE_SAMPLES, 0, self.device)
        self._few = draw_batches(self.task.train, _FEW, 0, self.device)
        model = copied(self.task.model).to(self.device)
        probe = Probe(model, batches, self.task.loss, seed=0)
        for kind in SCORERS:
            # Under the same key as `refusals`, so that it answers without a forward pass.
            scorer = SCORERS.make(kind)
            probe.once(("refusals", scorer), partial(scorer.refuses, probe))
        _ = probe.uses
        return probe

    def _next(self) -> None:
        with self._lock:
            scorer = self._waiting.pop(0)
            answer = self._answers[scorer]
            demanded = scorer in self._must
        if not demanded and self._too_dear(scorer):
            with self._lock:
                if scorer not in self._must:  # somebody may have asked for it meanwhile
                    del self._answers[scorer]
                    answer.cancel()
                    answer.set_running_or_notify_cancel()  # whoever waits goes on
                    return
        started = time.perf_counter()
        try:
            probe = self.ready.result()
            probe.once(scorer, lambda: scorer.score(probe))
            said = ""
        except Exception as error:  # noqa: BLE001 - shown with the scorer, whatever failed
            said = str(error) if isinstance(error, SparsityError) else repr(error)
        self.spent += time.perf_counter() - started
        answer.set_result(said)

    def _too_dear(self, scorer: Scorer) -> bool:
        """Would it pass the budget, going by the time that it takes for a few samples?"""
        if not scorer.needs_data or self.spent >= BUDGET:
            return self.spent >= BUDGET
        small = Probe(self.ready.result().model, self._few, self.task.loss)
        started = time.perf_counter()
        with suppress(Exception):  # it will be said when it is scored
            scorer.score(small)
        self.prices[scorer] = (time.perf_counter() - started) * SCORE_SAMPLES / _FEW
        return self.spent + self.prices[scorer] >= BUDGET


def board_of(model: str, device: str) -> Board:
    """The board of a model. Until it is ready the page shows that and stops."""
    task = cache.task(model)
    board = _board(model, task.model_digest, task.train.digest, resolve_device(device))
    try:
        board.ready.result(timeout=PATIENCE)
    except TimeoutError:
        _wait_for(board)
        st.stop()
    return board


@st.cache_resource(show_spinner=False, max_entries=3)
def _board(
    model: str,
    model_digest: str,  # noqa: ARG001 - the digests are part of the key
    train_digest: str,  # noqa: ARG001
    device: str,
) -> Board:
    return Board(cache.task(model), device)


def _wait_for(board: Board) -> None:
    @st.fragment(run_every=0.5)
    def look_again() -> None:
        st.info("Looking at the model: it may take a moment for a large one.")
        if board.ready.done():
            st.rerun()

    look_again()
