"""Choices from the registries, and what to say when a link asks for one that is not known."""

from collections.abc import Iterable

import streamlit as st

from sparsity_core.allocations import Manual
from sparsity_core.errors import SparsityError
from sparsity_core.structures import STRUCTURES, Structure


def pick_structure() -> Structure:
    """A structure kind and its whole-number options, kept in the URL."""
    kinds = STRUCTURES.kinds()
    warn_of_unknown("structure", kinds)
    kind = st.selectbox(
        "Structure",
        kinds,
        key="structure",
        bind="query-params",
        help="  \n".join(f"**{k}**: {STRUCTURES.describe(k).splitlines()[0]}" for k in kinds),
    )
    defaults = STRUCTURES.options_of(kind)
    options = {}
    if defaults:
        for column, (name, default) in zip(
            st.columns(len(defaults)), defaults.items(), strict=True
        ):
            warn_of_number(f"{kind}-{name}", 1, 64)
            options[name] = column.number_input(
                name, 1, 64, default, key=f"{kind}-{name}", bind="query-params"
            )
    if options.get("n", 0) > options.get("m", 64):
        st.warning(f"n must not be more than m; using {defaults['n']}:{defaults['m']}.")
        options = defaults
    return STRUCTURES.make(kind, **options)


def pick_manual() -> Manual:
    """A sparsity for each layer, typed or taken over from the Sensitivity page."""
    text = st.text_area(
        "Sparsity of each layer (%)",
        key="manual",
        bind="query-params",
        placeholder="conv1.weight: 50",
        help="One layer a line. Layers that are not named stay dense.",
    )
    try:
        return _manual_from(text)
    except SparsityError as error:
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
    given = st.query_params.get(key)
    if given is not None and given not in known:
        _warn(key, given)


def warn_of_number(key: str, low: int, high: int) -> None:
    """The same for a number out of range, or what is no number."""
    given = st.query_params.get(key)
    if given is not None and not (given.isdecimal() and low <= int(given) <= high):
        _warn(key, given)


def _warn(key: str, given: str) -> None:
    # A toast outlives the next run of the script, in which Streamlit has mended the link.
    st.toast(
        f"The link asks for {key} `{given}`, which cannot be had here; the default is used.",
        icon=":material/link_off:",
        duration="infinite",
    )
