"""Choices from the registries, and what to say when a link asks for one that is not known."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import streamlit as st

from app import cache
from app.about import question
from sparsity_core.allocations import Manual
from sparsity_core.errors import SparsityError
from sparsity_core.structures import STRUCTURES, Structure
from sparsity_core.task import SPLITS

# Patterns that CPUs run fast, as GPUs do 2:4: the Kernels page measures by how much.
_FOR_CPUS = ("3:32", "4x1")


def folded(title: str) -> Any:
    """Where a page's form goes: folded, for on a telephone it would be all of the first screen.

    The usual choices need no form, and the finished example below is of them.
    """
    return st.expander(title, icon=":material/tune:")


def structures() -> list[str]:
    """One text for each kind of structure, and the CPUs' own; others may be typed."""
    return [*(STRUCTURES.label(STRUCTURES.make(kind)) for kind in STRUCTURES), *_FOR_CPUS]


def pick_structure() -> Structure:
    """A structure by its text, kept in the URL."""
    text = st.selectbox(
        "Structure",
        structures(),
        key="structure",
        bind="query-params",
        accept_new_options=True,
        help=f"{question(STRUCTURES)} `3:32` and `4x1` are "
        "patterns that CPUs run fast: see the Kernels page. Type others, such as `1:8` or `8x1`.",
    )
    try:
        return STRUCTURES.make(text)
    except SparsityError as error:
        st.error(f"{error}. Until then every weight is on its own.")
        return STRUCTURES.make("unstructured")


def level(sparsity: float) -> int | str:
    """A level as the forms list it: whole per cents as numbers, others as they are typed."""
    percent = Decimal(repr(sparsity)) * 100  # 100 * 0.29 would be 28.999999999999996
    return int(percent) if percent == int(percent) else f"{percent.normalize():f}"


def pick_samples(model: str, key: str, about: str) -> dict[str, Any]:
    """The split that reports and how many of its samples, for a training; `about` is its help."""
    with st.popover("Samples"):
        warn_of_unknown(f"{key}-split", SPLITS)
        split = st.selectbox(
            "Split that reports", SPLITS, SPLITS.index("test"), key=f"{key}-split",
            bind="query-params", help=about,
        )  # fmt: skip
        available = len(cache.task(model).split(split))
        samples = st.number_input(
            f"Samples of it (of {available:,})", 1, available, available,
            key=f"{key}-samples {model} {split}", persist_state="session",
        )  # fmt: skip
    return {"split": split, "samples": int(samples)}


def pick_skip(structure: Structure) -> tuple[str, ...]:
    """Layers that stay dense, kept in the URL."""
    chosen = st.multiselect(
        "Layers that stay dense",
        ("first", "last"),
        key="skip",
        bind="query-params",
        accept_new_options=True,
        placeholder="none",
        help="The first and the last in the model's order; type names of others.",
    )
    if structure.removes_outputs and not chosen:
        st.caption(
            "This structure removes whole outputs: of the last layer these are its answers. "
            "Let `last` stay dense to keep them."
        )
    return tuple(chosen)


def pick_manual(used: bool) -> Manual:
    """A sparsity for each layer, typed or taken over from the Sensitivity page."""
    # Drawn also when it is not used: Streamlit writes into the link only what was drawn before.
    with st.expander("Layer by layer", expanded=used, icon=":material/tune:"):
        text = st.text_area(
            "Sparsity of each layer (%)",
            key="manual",
            bind="query-params",
            placeholder="conv1.weight: 50",
            disabled=not used,
            help="For the allocation `manual`. One layer a line; others stay dense.",
        )
    try:
        return _manual_from(text)
    except SparsityError as error:
        if used:
            st.error(f"{error} Until then every layer stays dense.")
        return Manual()


def manual_text(manual: Manual) -> str:
    """A manual allocation as `pick_manual` reads it."""
    return "\n".join(f"{name}: {100 * share:.6g}" for name, share in manual.layers)


def _manual_from(text: str) -> Manual:
    pairs = []
    for line in filter(None, map(str.strip, text.splitlines())):
        name, _, percent = line.rpartition(":")
        try:
            share = float(percent) / 100
        except ValueError:
            share = -1.0
        if not name or not 0 <= share <= 1:
            raise SparsityError(f"{line!r}: write a layer, a colon, and a per cent from 0 to 100.")
        pairs.append((name.strip(), share))
    return Manual(tuple(pairs))


def warn_of_unknown(key: str, known: Iterable[str]) -> None:
    """A link with a value that is not known gets the default, and a word about it."""
    known = list(known)
    for given in _from_link(key):
        if given not in known:
            _warn(key, given)


def warn_of_number(key: str, low: int, high: int) -> None:
    """The same for a number out of range, or what is no number."""
    for given in _from_link(key):
        if not (given.isdecimal() and low <= int(given) <= high):
            _warn(key, given)


def _from_link(key: str) -> list[str]:
    """What the link says of a choice that nobody has made since."""
    return [] if key in st.session_state else list(filter(None, st.query_params.get_all(key)))


def _warn(key: str, given: str) -> None:
    # A toast outlives the next run of the script, in which Streamlit has mended the link.
    st.toast(
        f"The link asks for {key} `{given}`, which cannot be had here; the default is used.",
        icon=":material/link_off:",
        duration="infinite",
    )
