"""Choices from the registries: nothing is listed twice by hand."""

import streamlit as st

from sparsity_core.structures import STRUCTURES, Structure


def pick_structure() -> Structure:
    """A structure kind and its whole-number options, kept in the URL."""
    kinds = STRUCTURES.kinds()
    given = st.query_params.get("structure")
    if given is not None and given not in kinds:
        st.warning(f"The link asks for structure `{given}`, which is not known; using the default.")
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
            options[name] = column.number_input(
                name, 1, 64, default, key=f"{kind}-{name}", bind="query-params"
            )
    if options.get("n", 0) > options.get("m", 64):
        st.warning(f"n must not be more than m; using {defaults['n']}:{defaults['m']}.")
        options = defaults
    return STRUCTURES.make(kind, **options)
