"""Below each chart: the picture, the numbers, and the words that make them again."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st
import vl_convert

from app.theme import AnyChart
from sparsity_core.spreadsheet import without_formulas

_PARQUET = "application/vnd.apache.parquet"
_WIDTH = 640  # of an exported picture, in points
# Streamlit leaves none at the right, where the last label of an axis is then cut, and too much
# below; and it aligns labels of bands with the ends of the axis, not with their bands.
_PADDING = {"left": 2, "right": 10, "top": 5, "bottom": 4}


def show(
    chart: AnyChart,
    table: pd.DataFrame,
    name: str,
    *,
    command: str | None = None,
    python: str | None = None,
    on_select: Callable[[Mapping[str, Any]], None] | None = None,
    key: str | None = None,
) -> None:
    """Draw a chart with its export row.

    `name` is the file name without suffix, and unique on the page. `on_select` is called with what
    was clicked, by selection, before the page is drawn again. Pictures are made when asked for, on
    the server.
    """
    key = key or f"chart {name}"

    def hand_over() -> None:
        if on_select:
            on_select(st.session_state[key]["selection"])

    st.altair_chart(
        on_screen(chart), width="stretch", on_select=hand_over if on_select else "ignore", key=key
    )
    offer(chart, table, name, command=command, python=python)


def on_screen(chart: AnyChart) -> AnyChart:
    """The chart with room for its last labels, and labels in the middle of their bands."""
    return chart.configure_axisBand(labelFlush=False).properties(padding=_PADDING)


def offer(
    chart: AnyChart,
    table: pd.DataFrame,
    name: str,
    *,
    command: str | None = None,
    python: str | None = None,
) -> None:
    """The export row alone, for what is on screen in another form than on paper."""
    with st.popover("Export", icon=":material/download:", key=f"export {name}"):
        (png, svg), (csv, parquet) = st.columns(2), st.columns(2)
        with png:
            _download("PNG", f"{name}.png", partial(_png, chart), "image/png")
        with svg:
            _download("SVG", f"{name}.svg", partial(_svg, chart), "image/svg+xml")
        with csv:
            _download("CSV", f"{name}.csv", partial(_csv, table), "text/csv")
        with parquet:
            _download("Parquet", f"{name}.parquet", partial(_parquet, table), _PARQUET)
        if command:
            st.caption("Copy as command")
            st.code(command, language="bash", wrap_lines=True)
        if python:
            st.caption("Copy as Python")
            st.code(python, language="python", wrap_lines=True)


def _download(label: str, file: str, make: Any, mime: str) -> None:
    st.download_button(
        label, data=make, file_name=file, mime=mime, on_click="ignore", key=f"download {file}"
    )


def _png(chart: AnyChart) -> bytes:
    return vl_convert.vegalite_to_png(_spec(chart), scale=2)


def _svg(chart: AnyChart) -> bytes:
    return vl_convert.vegalite_to_svg(_spec(chart)).encode()


def _spec(chart: AnyChart) -> str:
    """The chart for paper: on screen the page gives the width, here somebody must."""
    if isinstance(chart, alt.Chart | alt.LayerChart):
        chart = chart.properties(width=_WIDTH)
    return str(chart.properties(background="white").to_json())


def _parquet(table: pd.DataFrame) -> bytes:
    # A column of several types, such as sizes with words among them, goes as text.
    plain = table.apply(lambda column: column.astype(str) if _mixed(column) else column)
    written: bytes = plain.to_parquet(index=False)
    return written


def _mixed(column: "pd.Series[Any]") -> bool:
    return column.dtype == object and column.dropna().map(type).nunique() > 1


def _csv(table: pd.DataFrame) -> bytes:
    return without_formulas(table).to_csv(index=False).encode()
