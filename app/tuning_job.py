"""A fine-tune under way: a thread of the server trains it, pages look at what it has seen."""

import threading
from dataclasses import dataclass, field

import streamlit as st
from safetensors.torch import save

from sparsity_core.checkpoint import UnderWay
from sparsity_core.digest import digest_of
from sparsity_core.errors import SparsityError
from sparsity_core.recipe import Recipe
from sparsity_core.rounds import name_of
from sparsity_core.task import Task
from sparsity_core.tuning import Look, Step, Tuning
from sparsity_core.unsaved import telling

_KEPT = 6  # finished ones that can still be read


@dataclass(eq=False)
class TuningJob:
    """One fine-tune; everything but `stop` is written by its thread alone."""

    model: str
    task: Task
    recipe: Recipe
    every: int
    patience: int | None
    device: str
    steps: list[Step] = field(default_factory=list)
    error: str = ""
    unsaved: str = ""  # why it cannot be saved on its way, and what to do
    stopped: bool = False
    tuning: Tuning | None = None
    ended: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Train in a thread of its own; returns at once."""
        threading.Thread(target=self._run, daemon=True, name="sparsity-tuning").start()

    def stop(self) -> None:
        """End after the step that is under way; the best so far is kept."""
        self.stopped = True

    @property
    def active(self) -> bool:
        """Will it still change?"""
        return not self.ended.is_set()

    @property
    def best(self) -> Look | None:
        """The look with the lowest loss."""
        looks = [step.look for step in list(self.steps) if step.look]
        return min(looks, key=lambda look: look.loss, default=None)

    def best_file(self) -> bytes:
        """The best state as safetensors, zeros included."""
        assert self.tuning is not None
        return save({k: v.cpu().contiguous() for k, v in self.tuning.best_state.items()})

    def _run(self) -> None:
        try:
            under_way = UnderWay(self._name)
            try:
                with telling(self._hear):
                    self._train(under_way)
            finally:  # only a server that dies leaves it: the same fine-tune goes on from there
                under_way.delete()
        except SparsityError as error:
            self.error = str(error)
        except Exception as error:  # noqa: BLE001 - a thread must end with a word, not in silence
            self.error = f"unexpected {error!r}; please report it"
        finally:
            self.ended.set()

    def _hear(self, unsaved: str) -> None:
        self.unsaved = unsaved

    def _train(self, under_way: UnderWay) -> None:
        self.tuning = Tuning(
            self.task,
            self.recipe,
            every=self.every,
            patience=self.patience,
            device=self.device,
            under_way=under_way,
        )
        for step in self.tuning:
            self.steps.append(step)
            if self.stopped:
                return

    @property
    def _name(self) -> str:
        # Seed and samples are those that Tuning takes by itself.
        named = name_of(self.task, self.recipe, seed=0, score_samples=512, device=self.device)
        return digest_of(["tuning", named, self.every, self.patience])


@st.cache_resource(show_spinner=False)
def jobs() -> dict[str, TuningJob]:
    """The fine-tunes of this server by what they train; the oldest are forgotten."""
    return {}


def submit(key: str, job: TuningJob) -> None:
    """Start a job under a key, in place of what was there."""
    known = jobs()
    if key in known:
        known.pop(key).stop()
    for old in [k for k, other in known.items() if not other.active][: max(0, len(known) - _KEPT)]:
        del known[old]
    known[key] = job
    job.start()
