"""The film of a layer's mask: scrub or play it, with fan-in and input pixels beside it."""

from collections.abc import Callable, Sequence
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from app import export
from app.fragment import redraw
from app.moving_frames import KINDS, WINDOW, Frames, frames_of, pixel_map
from app.moving_source import Experiment
from app.moving_words import rule_name, words_of
from app.theme import GREY, SEQUENTIAL, AnyChart

_SECONDS = 0.9  # a frame of a film that plays
_AGAIN = 2.0  # seconds between two looks at a film that grows
# Told apart by shape as well; what stays is small and grey, so that change is what is seen.
_COLOURS = (GREY, "#0072B2", "#009E73", "#D55E00")
_SHAPES = ("square", "triangle-up", "diamond", "cross")
_SIZES = (14, 60, 60, 60)


def draw_film(experiment_of: Callable[[], Experiment], growing: bool) -> None:
    """Choose a training and a layer, then the film; one that is growing is looked at again."""
    redraw(lambda: _draw_film(experiment_of(), growing), _AGAIN if growing else None)


def _draw_film(experiment: Experiment, growing: bool) -> None:
    trainings = experiment.filmed()
    if not trainings:
        st.info("The film begins with the first look at a network whose masks move.")
        return
    left, right = st.columns(2)
    names = {
        f"{rule_name(t.rule)}, seed {t.seed}"
        + (f", {100 * t.sparsity:.4g} %" if t.sparsity is not None else ""): t
        for t in trainings
    }
    usual = next((i for i, name in enumerate(names) if name.startswith("rigl")), 0)
    chosen = left.selectbox("Film of", list(names), usual, key=f"film {sorted(names)}")
    film = experiment.film(names[chosen])
    if film is None or not film.shapes or not film.steps:
        st.info(
            "No film of it is here: its file is gone, or no layer is small enough. Run it again."
        )
        return
    layer = right.selectbox("Layer", list(film.shapes), key=f"film layer {list(film.shapes)}")
    frames = frames_of(film.masks(layer))
    whole = film.steps[-1] == experiment.plan.steps
    if growing and not whole:
        st.caption("As far as it was last saved; it goes on here, at its end unless you move it.")
    key = f"{chosen} {layer} of {experiment.plan.digest}"
    _play(experiment, frames, film.steps, key, whole)


def place_of(steps: Sequence[int], now: int | None, end: int | None, whole: bool) -> int:
    """The step to be shown: of a film that grows its end, unless another was chosen.

    `now` is the step that was shown when the film ended at `end`; both are None at first.
    """
    if now is None:
        return steps[min(len(steps) - 1, max(1, (len(steps) - 1) // 3))] if whole else steps[-1]
    return steps[-1] if now == end or now not in steps else now


def _play(experiment: Experiment, frames: Frames, steps: list[int], key: str, whole: bool) -> None:
    last = len(steps) - 1
    playing = last > 0 and st.toggle("Play", key=f"play {key}")
    place, end, state = f"frame {key}", f"end {key}", st.session_state
    if place not in state or state.get(end) != steps[-1]:
        state[place] = place_of(steps, state.get(place), state.get(end), whole)
    state[end] = steps[-1]

    def shown() -> None:
        if playing:
            now = steps.index(st.session_state[place])
            st.session_state[place] = steps[(now + 1) % len(steps)]
        if last > 0:
            st.select_slider("Step", steps, key=place)
        draw_frame(experiment, frames, steps, steps.index(st.session_state[place]))

    redraw(shown, _SECONDS if playing else None)


def draw_frame(experiment: Experiment, frames: Frames, steps: list[int], i: int) -> None:
    """One frame, the layer's changes over time, fan-in, and the pixels that it reads."""
    top, left = frames.busiest()
    cells = frames.window(i, top, left)
    kinds = {kind: int(mask.sum()) for kind, mask in frames.kinds(i).items()}
    since = f"since step {steps[i - 1]:,}" if i else "at the start"
    st.markdown(
        f"Step **{steps[i]:,}**, {since}: "
        f"**{kinds['born']:,}** born ▲, **{kinds['returned']:,}** returned ◆, "
        f"**{kinds['died']:,}** died ✚, {kinds['stays']:,} stay ▪."
    )
    words = words_of(experiment.plan)
    pixels = pixel_map(frames, i, experiment.image)
    one, two = st.columns([3, 2])
    with one:
        export.show(_window(cells, top, left, frames), cells, "moving-film", **words)
        rows, cols = frames.masks[0].shape
        st.caption(
            f"Neurons {top} to {min(top + WINDOW[0], rows) - 1} of {rows:,} and inputs {left} to "
            f"{min(left + WINDOW[1], cols) - 1} of {cols:,}: the part in which most happens. "
            "Changes are between two looks; what came and went in between is not seen."
        )
        changes = frames.counts().assign(step=lambda t: t["frame"].map(lambda f: steps[f]))
        export.show(_changes(changes, steps[i]), changes, "moving-changes", **words)
    with two:
        if pixels is not None:
            _draw_pixels(pixels, words)
        counts = pd.DataFrame({"fan-in": frames.fan_in(i)})
        export.show(_fan_in(counts), counts, "moving-fan-in", **words)
        without = int((counts["fan-in"] == 0).sum())
        st.caption(
            f"{without} of {len(counts):,} neurons have no input"
            + (" and give their bias alone." if without else ".")
        )


def _draw_pixels(pixels: object, words: dict[str, Any]) -> None:
    table = pd.DataFrame(pixels).stack().rename("connections").reset_index()
    table.columns = pd.Index(["row", "column", "connections"])
    export.show(_pixels(table), table, "moving-pixels", **words)
    dead = int((table["connections"] == 0).sum())
    st.caption(f"{dead} of {len(table):,} input pixels have no connection (×).")


def _window(cells: pd.DataFrame, top: int, left: int, frames: Frames) -> AnyChart:
    rows, cols = frames.masks[0].shape
    bottom, right = min(top + WINDOW[0], rows), min(left + WINDOW[1], cols)
    axis = alt.Axis(format="d", tickMinStep=1, grid=False)
    scale: dict[str, Any] = {"domain": list(KINDS)}
    legend = alt.Legend(title=None, orient="top", symbolOpacity=1)
    return (
        alt.Chart(cells)
        .mark_point(filled=True, opacity=0.95)
        .encode(
            alt.X(
                "input:Q", axis=axis, scale=alt.Scale(domain=[left - 1, right], nice=False),
                title="input",
            ),
            alt.Y(
                "output:Q", axis=axis, scale=alt.Scale(domain=[bottom, top - 1], nice=False),
                title="neuron",
            ),
            alt.Color("kind:N", legend=legend, scale=alt.Scale(range=list(_COLOURS), **scale)),
            alt.Shape("kind:N", legend=legend, scale=alt.Scale(range=list(_SHAPES), **scale)),
            alt.Size("kind:N", legend=None, scale=alt.Scale(range=list(_SIZES), **scale)),
            tooltip=["output:Q", "input:Q", "kind:N"],
        )
        .properties(height=380)
    )  # fmt: skip


def _changes(changes: pd.DataFrame, step: int) -> AnyChart:
    kinds = list(KINDS[1:])
    scale: dict[str, Any] = {"domain": kinds}
    legend = alt.Legend(title=None, orient="top")
    base = alt.Chart(changes[changes["step"] > 0]).encode(
        alt.X("step:Q", title="step of training"),
        alt.Y("count:Q", title="weights since last look"),
        alt.Color("kind:N", legend=legend, scale=alt.Scale(range=list(_COLOURS[1:]), **scale)),
        tooltip=["step:Q", "kind:N", "count:Q"],
    )
    shape = alt.Shape("kind:N", legend=legend, scale=alt.Scale(range=list(_SHAPES[1:]), **scale))
    here = alt.Chart(pd.DataFrame({"step": [step]})).mark_rule(color=GREY, strokeDash=[4, 3])
    return alt.layer(
        base.mark_line(), base.mark_point(filled=True, size=40, opacity=1).encode(shape),
        here.encode(x="step:Q"),
    ).properties(height=270)  # fmt: skip


def _fan_in(counts: pd.DataFrame) -> AnyChart:
    return (
        alt.Chart(counts)
        .mark_bar(color="#0072B2")
        .encode(
            alt.X("fan-in:Q", bin=alt.Bin(maxbins=25, minstep=1), title="inputs of a neuron"),
            alt.Y("count():Q", title="neurons"),
            tooltip=[alt.Tooltip("fan-in:Q", bin=alt.Bin(maxbins=25, minstep=1)), "count():Q"],
        )
        .properties(height=220)
    )


def _pixels(table: pd.DataFrame) -> AnyChart:
    base = alt.Chart(table).encode(
        alt.X("column:O", axis=None),
        alt.Y("row:O", axis=None),
        tooltip=["row:O", "column:O", "connections:Q"],
    )
    colour = alt.Color(
        "connections:Q", title="connections of an input pixel",
        scale=alt.Scale(scheme={"name": SEQUENTIAL}),
        legend=alt.Legend(orient="top", gradientLength=180, tickMinStep=1, format="d"),
    )  # fmt: skip
    none = base.transform_filter("datum.connections === 0")
    return alt.layer(
        base.mark_rect().encode(colour), none.mark_text(text="×", color="white", fontSize=9)
    ).properties(height=460)
