"""The models that this tab has uploaded or named; no other tab sees them."""

import re
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import streamlit as st

from sparsity_core.errors import SparsityError
from sparsity_core.intake.uploaded import forget
from sparsity_core.metrics import is_share
from sparsity_core.quarantine import Admitted, admit
from sparsity_core.task import CatalogEntry, load_task
from sparsity_core.tryout import tried

_TOKEN = re.compile(r"upload:[0-9a-f]{32}")
_MODELS = "own models"  # in the session: reference -> Admitted
_PENDING = "upload under way"


@dataclass(frozen=True, eq=False)
class Pending:
    """An upload that is being looked at."""

    label: str
    future: "Future[Admitted]"


def models() -> dict[str, Admitted]:
    """This tab's own models by reference."""
    found: dict[str, Admitted] = st.session_state.setdefault(_MODELS, {})
    return found


def entries() -> dict[str, CatalogEntry]:
    """The same as entries of a catalog."""
    return {reference: _entry(reference, own) for reference, own in models().items()}


def label_of(reference: str) -> str:
    """How a model is called in lists: an upload by its file."""
    own = models().get(reference)
    return f"yours: {own.label}" if own else reference


def in_words(text: str) -> str:
    """A text about models with this tab's uploads by their files; others are nobody's to know."""
    for reference, own in models().items():
        text = text.replace(reference, f"yours: {own.label}")
    return _TOKEN.sub("an upload, gone or of another tab", text)


def start(name: str, content: bytes, **options: Any) -> None:
    """Have an upload looked at, apart; `pending` says how it stands."""
    st.session_state[_PENDING] = Pending(name, _threads().submit(admit, name, content, **options))


def start_code(reference: str) -> None:
    """Have the code at a reference imported; for servers that allow it."""
    st.session_state[_PENDING] = Pending(reference, _threads().submit(_by_code, reference))


def pending() -> Pending | None:
    """The upload that is being looked at, if there is one."""
    found: Pending | None = st.session_state.get(_PENDING)
    return found


def take() -> Admitted:
    """The upload that has been looked at joins the models; raises what it was refused for."""
    done: Pending = st.session_state.pop(_PENDING)
    admitted = done.future.result()
    models()[admitted.reference] = admitted
    return admitted


def drop(reference: str) -> None:
    """Forget a model of this tab, and remove its file."""
    models().pop(reference, None)
    if reference.startswith("upload:"):
        forget(reference.removeprefix("upload:"))


def _by_code(reference: str) -> Admitted:
    if ":" not in reference:
        raise SparsityError(f"{reference!r}: write module:factory, and ?data=PATH&weights=FILE")
    found = tried(reference)
    # A run remembers its metric by name alone, and charts go by that.
    if is_share(found.metric) != found.share:
        raise SparsityError(
            f"{reference}: its metric {found.metric!r} is no share, which its name does not "
            "tell; add &metric=module:function, or &metric= and a name of `sparsity sweep --help`"
        )
    return Admitted(reference, reference, found.notes)


def _entry(reference: str, own: Admitted) -> CatalogEntry:
    return CatalogEntry(
        reference,
        f"Your own model, {own.label}; only this tab knows it.",
        load=lambda _seed: load_task(reference),
        missing=lambda: None,
        card=lambda: None,
    )


@st.cache_resource(show_spinner=False)
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="sparsity-upload")
