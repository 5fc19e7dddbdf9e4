"""The one layer that a page looks at closely: clicked in a chart or a table, or picked by name."""

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from app.forms import warn_of_unknown

_KEY = "layer"  # shared by the pages, and in the URL


def pick_layer(layers: Sequence[str]) -> str:
    """A list of layers that shows the chosen one; draw it before what depends on it."""
    warn_of_unknown(_KEY, layers)
    if st.session_state.get(_KEY, layers[0]) not in layers:
        st.session_state[_KEY] = layers[0]  # another model's
    return st.selectbox(
        "Layer", layers, key=_KEY, bind="query-params", help="Or click one in a chart or table."
    )


def follow_chart(selection: Mapping[str, Any]) -> None:
    """The layer that was clicked in a chart becomes the chosen one."""
    for points in selection.values():
        if points:
            st.session_state[_KEY] = points[0]["layer"]


def follow_row(table: str, layers: Sequence[str]) -> None:
    """The layer whose row was clicked becomes the chosen one; `table` is the table's key."""
    for index in st.session_state[table]["selection"]["rows"]:
        st.session_state[_KEY] = layers[index]
