"""What makes a chart readable on every page: room for labels, contrast, shapes that stay whole."""

import tomllib
from pathlib import Path

import altair as alt
import numpy as np
import pandas as pd
import pytest

from app import export
from app.mask_charts import weights
from app.moving_charts import by_step

_THEME = Path(__file__).parent.parent / "app" / ".streamlit" / "config.toml"
_DARK = "#171614"  # Streamlit's dark ground


def test_on_screen_the_last_label_of_an_axis_has_room_and_bands_have_theirs_in_the_middle():
    chart = alt.Chart(pd.DataFrame({"a": ["x"], "b": [1]})).mark_bar().encode(x="a", y="b:Q")
    spec = export.on_screen(alt.layer(chart)).to_dict()
    assert spec["padding"]["right"] >= 10  # half of "3,000" in an axis' letters
    assert spec["config"]["axisBand"]["labelFlush"] is False


@pytest.mark.parametrize(("scheme", "ground"), [("light", "#ffffff"), ("dark", _DARK)])
def test_the_colour_of_buttons_can_be_read_under_white_and_on_the_ground(scheme, ground):
    theme = tomllib.loads(_THEME.read_text())["theme"]
    primary = (theme | theme.get(scheme, {}))["primaryColor"]
    assert _contrast(primary, "#ffffff") > 4
    assert _contrast(primary, ground) > 4


def test_a_network_that_lives_whole_is_not_drawn_on_the_upper_edge():
    table = pd.DataFrame(
        {"series": "dense", "seed": 0, "step": [0, 100], "explored": [100.0, 100.0]}
    )
    spec = by_step(table, "explored", "ever live (%)", from_start=True, log=True).to_dict()
    line = next(layer for layer in spec["layer"] if layer["mark"]["type"] == "line")
    assert line["encoding"]["y"]["scale"]["domain"][1] > 100


@pytest.mark.parametrize(("rows", "last"), [(9, 8), (16, 14), (80, 70), (1000, 900)])
def test_a_row_of_a_matrix_has_its_number_in_its_middle(rows, last):
    spec = weights(
        np.ones((rows, 2), bool), np.ones((rows, 2)), slice(0, rows), slice(0, 2), (rows, 2)
    ).to_dict()
    axes = [layer["encoding"]["y"]["axis"] for layer in spec["layer"]]
    assert all(axis["values"][-1] == last + 0.5 for axis in axes)
    assert {axis["labelExpr"] for axis in axes} == {"format(datum.value - 0.5, ',')"}


def _contrast(one: str, other: str) -> float:
    """By WCAG 2.1: 1 for equal colours, 21 for black on white."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
