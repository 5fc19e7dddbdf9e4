"""What a pruned classifier does besides its accuracy, at one point of a curve."""

from collections.abc import Sequence
from itertools import product

import pandas as pd
import streamlit as st

from app import cache, export
from app.behaviour_charts import class_chart, class_table, reliability_chart, reliability_table
from app.curve_names import names, stages
from app.curve_words import curve_command, curve_python
from app.noise_floor import floor_of
from sparsity_core.behaviour import Flips
from sparsity_core.curve import CurvePlan
from sparsity_core.curve_row import CurveResult

_FLIPS, _CLASSES, _SURE = "Samples that flip", "Classes", "Calibration"
_COLUMNS = ("changed (%)", "right -> wrong (%)", "wrong -> right (%)", "wrong -> wrong (%)")


def draw_behaviour(plan: CurvePlan, rows: Sequence[CurveResult]) -> None:
    """Flips, classes or calibration of a point that the user chooses."""
    known = [row for row in rows if row.class_values]
    if not known:
        return  # no classifier, or rows of an older version
    st.subheader("Behaviour at one point")
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    curve_of = {recipe: f"{name}, {stages(plan)[recipe]}" for recipe, name in names(plan).items()}
    by_digest = {r.at(s).digest: curve_of[r] for r, s in product(plan.recipes, plan.sparsities)}
    curves = list(dict.fromkeys(by_digest[row.recipe] for row in known))
    curve = left.selectbox("Curve", curves, key=f"acts of {plan.digest}")
    levels = sorted({row.sparsity for row in known if by_digest[row.recipe] == curve})
    level = right.selectbox(
        "Sparsity", levels, len(levels) // 2, format_func=lambda s: f"{s:.1%}",
        key=f"acts at {plan.digest} {curve} {levels}",
    )  # fmt: skip
    shown = st.segmented_control(
        "What", [_FLIPS, _CLASSES, _SURE], default=_FLIPS, required=True, key="curve-behaviour",
        label_visibility="collapsed",
    )  # fmt: skip
    own = [r for r in known if by_digest[r.recipe] == curve and r.sparsity == level]
    if shown == _FLIPS:
        _draw_flips(plan, own)
    elif shown == _CLASSES:
        _draw_classes(plan, own)
    else:
        _draw_calibration(plan, own)


def _draw_flips(plan: CurvePlan, own: Sequence[CurveResult]) -> None:
    setting = plan.setting
    lines = [("this point", *_means([_flips_of(row) for row in own]))]
    floor = floor_of(plan.model)
    if floor.pairs:
        lines.append(("two dense networks", *_means(floor.pairs)))
    table = pd.DataFrame(lines, columns=["compared with dense", *_COLUMNS])
    st.dataframe(table.style.format(precision=2), hide_index=True, key="curve flips")
    said = (
        f"The second line is the noise floor: {len(floor.pairs)} pairs of dense networks that "
        f"differ by seed alone, of {floor.source}. Equal accuracy hides what lies above it."
        if floor.pairs
        else "No noise floor: it needs dense networks of several seeds, and there are none of this "
        "model. The Lottery ticket page trains them, with 0 rounds those alone."
    )
    st.caption(
        f"Predictions on {setting.samples:,} {setting.split} samples that are unlike the dense "
        f"model's{_over(own)}. {said}"
    )


def _draw_classes(plan: CurvePlan, own: Sequence[CurveResult]) -> None:
    named = {
        "dense": [row.dense_class_values or "" for row in own[:1]],
        "pruned": [row.class_values or "" for row in own],
    }
    table = class_table(named, cache.task(plan.model).classes)
    export.show(
        class_chart(table, plan.setting.samples), table, f"classes-{plan.model}",
        command=curve_command(plan), python=curve_python(plan), key="curve classes",
    )  # fmt: skip
    st.caption(f"Accuracy of each class on {plan.setting.split} samples{_over(own)}.")


def _draw_calibration(plan: CurvePlan, own: Sequence[CurveResult]) -> None:
    named = {
        "dense": [row.dense_reliability or "" for row in own[:1]],
        "pruned": [row.reliability or "" for row in own],
    }
    table = reliability_table(named)
    export.show(
        reliability_chart(table), table, f"reliability-{plan.model}",
        command=curve_command(plan), python=curve_python(plan), key="curve reliability",
    )  # fmt: skip
    errors = [row.calibration_error for row in own if row.calibration_error is not None]
    st.caption(
        f"Calibration error (ECE, 15 bins): {sum(errors) / len(errors):.2%}, dense "
        f"{own[0].dense_calibration_error:.2%}. On the line a network is right as often as it "
        f"believes; below it, it is too sure. Size: samples in a bin{_over(own)}."
    )


def _over(own: Sequence[CurveResult]) -> str:
    return f", over {len(own)} seeds" if len(own) > 1 else ""


def _flips_of(row: CurveResult) -> Flips:
    return Flips(row.samples or 1, row.lost or 0, row.gained or 0, row.other_errors or 0)


def _means(found: Sequence[Flips]) -> list[float]:
    shares = [
        (f.changed, *(n / f.samples for n in (f.lost, f.gained, f.other_errors))) for f in found
    ]
    return [100 * sum(column) / len(found) for column in zip(*shares, strict=True)]
