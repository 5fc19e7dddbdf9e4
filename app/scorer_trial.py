"""Is a scorer worth more than chance? Each one's accuracy beside random and shuffled masks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd
import streamlit as st

from app import cache, export, live
from app.curve_words import curve_command, curve_python
from app.known_sweeps import with_curves
from app.scorer_dots import BEATS, EMPTIED, NO_BETTER, UNCLEAR, dots
from app.scorer_study import Study
from app.state import Frame
from app.tradeoff_view import start_label
from sparsity_core.allocations import Manual
from sparsity_core.curve import CurvePlan, plan_curve
from sparsity_core.curve_row import CurveResult
from sparsity_core.errors import SparsityError
from sparsity_core.recipe import Recipe
from sparsity_core.scorers import SCORERS, Random
from sparsity_core.store import Store
from sparsity_core.units import around_dense, in_units, unit_of, worse_is

LAYER, MODEL = "This layer", "Whole model"
_SEEDS = 5  # of random scores
_SAMPLES = 2000  # of the validation split, at most


@dataclass(frozen=True, eq=False)
class Trial:
    """What is measured: every scorer once, as it is and shuffled; random with several seeds."""

    scorers: CurvePlan | None  # None when there is none but random
    random: CurvePlan
    scope: str
    layer: str

    @property
    def plans(self) -> list[CurvePlan]:
        """Both; random is the shorter one and comes first, so that verdicts can be given."""
        return [self.random, *([self.scorers] if self.scorers else [])]


def choose_trial(frame: Frame, study: Study) -> Trial:
    """Prune the layer alone or the whole model; with shuffled masks or without."""
    left, right = st.columns([1, 2], vertical_alignment="bottom")
    scope = left.segmented_control(
        "Prune", [LAYER, MODEL], default=LAYER, required=True, key="scorers-scope",
        bind="query-params",
    )  # fmt: skip
    shuffled = right.checkbox(
        "Shuffled masks", True, key="scorers-shuffled", bind="query-params",
        help="Each scorer again with as many weights kept in each layer, but anywhere in it: what "
        "its ranking adds to its counts.",
    )  # fmt: skip
    base, refused = frame.recipe, set(study.refused_everywhere)
    if scope != LAYER:
        base = with_curves(base, frame.model)
    else:
        if reason := study.board.refusal(Random(), base.structure, study.layer):
            raise SparsityError(f"{study.layer} {reason}")
        alone = Manual(((study.layer, study.share),))
        base = Recipe(study.share, structure=base.structure, allocation=alone)
        refused = set(study.refused)
    ranked = [
        replace(base, scorer=scorer)
        for kind in study.kinds
        if kind not in refused and (scorer := SCORERS.make(kind)) != Random()
    ]
    controls = [replace(recipe, shuffled=True) for recipe in ranked] if shuffled else []
    return Trial(
        _plan(frame, [*ranked, *controls], 1) if ranked else None,
        _plan(frame, [replace(base, scorer=Random())], _SEEDS),
        str(scope),
        study.layer,
    )


def offer(trial: Trial, store: Store) -> None:
    """One button for all of it."""
    first, *others = trial.plans
    chance, label = start_label(first, store.rows(first))
    new = chance
    for plan in others:
        count, text = start_label(plan, store.rows(plan))
        label = f"{text} and {chance} of random" if count and chance else text if count else label
        new += count
    if not new:
        label = live.words_to_start("Run", 0, sum(len(plan.points()) for plan in trial.plans))
    live.start_button(first, new, label, key="start trial", also=others)


def draw_trial(trial: Trial, store: Store) -> None:
    """A dot for each scorer with its interval, over the band of random scores."""
    plan = trial.scorers or trial.random
    table = table_of([row for plan in trial.plans for row in store.rows(plan)])
    setting = plan.setting
    if table.empty:
        st.info("Not measured yet. Run it: the dots appear here.")
        return
    where = trial.layer if trial.scope == LAYER else "the whole model"
    name = f"trial-{trial.layer if trial.scope == LAYER else plan.model}"
    if table["value"].notna().any():
        command = "\n".join(map(curve_command, trial.plans))
        python = "\n\n".join(map(curve_python, trial.plans))
        samples = f"{setting.samples:,} {setting.split} samples"
        title = unit_of(setting.metric).title(setting.metric, samples)
        chart = dots(table, title, unit_of(setting.metric))
        export.show(chart, table, name, command=command, python=python, key="trial")
        shuffle = (
            " In one layer a shuffled mask is a random one."
            if trial.scope == LAYER
            else " Diamonds: as many kept in each layer, but anywhere in it."
        )
        st.caption(
            f"{100 * plan.sparsities[0]:g} % of {where} set to zero, no fine-tuning; "
            f"{setting.score_samples} train samples score. Bars: the paired 95 % interval over "
            f"samples, hung from the dense line. Band: lowest to highest of {_SEEDS} random "
            f"seeds. A scorer that {BEATS} has its whole interval on the better side of the band "
            f"and of its own shuffled mask; ? {UNCLEAR}: only its dot; \N{MULTIPLICATION SIGN} "
            f"{NO_BETTER}: not even that.{shuffle}" + _emptied(table)
        )
    _draw_numbers(table, setting.metric)


def table_of(rows: Sequence[CurveResult]) -> pd.DataFrame:
    """One row a point: which control it is, its interval, and its verdict; in the metric's unit."""
    found = [
        {
            "scorer": row.scorer.removesuffix(", shuffled"),
            "control": _control(row),
            "seed": row.seed,
            "value": row.value,
            "dense_value": row.dense_value,
            "drop": row.drop,
            "drop_low": row.drop_low,
            "drop_high": row.drop_high,
            "samples": row.samples,
            "split": row.split,
            "status": row.status,
            "message": row.message,
        }
        for row in rows
    ]
    table = pd.DataFrame(found)
    if table.empty:
        return table
    numbers = ["value", "dense_value", "drop", "drop_low", "drop_high"]
    table[numbers] = in_units(rows).scale * table[numbers].apply(pd.to_numeric)
    table = table.assign(**around_dense(table))
    # Drops, as they say which of two values is the better one, whichever way the metric counts.
    chance = table.loc[table["control"] == "random", "drop"].dropna()
    shuffled = table[table["control"] == "shuffled"].groupby("scorer")["drop"].min()
    # A scorer has to beat both: random scores, and its own counts without its ranking.
    own = table["scorer"].map(shuffled).astype(float)
    known = len(chance) > 0
    bar = own.fillna(chance.min()).clip(upper=chance.min()) if known else own * math.nan
    table["bar"] = table["dense_value"] + worse_is(table) * bar
    table["verdict"] = [
        "" if row.control else _verdict(row.status, row.drop, row.drop_high, most)
        for row, most in zip(table.itertuples(), bar, strict=True)
    ]
    return table


def _verdict(status: str, drop: float, high: float, bar: float) -> str:
    """Against the better of both controls, by drops; nothing while random is not there."""
    if status == "collapsed":
        return EMPTIED
    if pd.isna(bar) or pd.isna(drop):
        return ""
    if high < bar:
        return BEATS
    return UNCLEAR if drop < bar else NO_BETTER


def _emptied(table: pd.DataFrame) -> str:
    """What to know of points whose number says nothing about the sparsity."""
    emptied = table[table["status"] == "collapsed"]
    seeds = int((emptied["control"] == "random").sum())
    said = f" Random emptied a layer with {seeds} of its seeds." if seeds else ""
    if (emptied["control"] == "").any():
        said += f" ! {EMPTIED}: a number, but nothing passes there but biases."
    return said


def _control(row: CurveResult) -> str:
    if row.scorer == SCORERS.label(Random()):
        return "random"
    return "shuffled" if row.scorer.endswith(", shuffled") else ""


def _plan(frame: Frame, recipes: Sequence[Recipe], seeds: int) -> CurvePlan:
    task = cache.task(frame.model)
    return plan_curve(
        task,
        recipes=recipes,
        sparsities=[recipes[0].sparsity],
        seeds=range(seeds),
        samples=min(_SAMPLES, len(task.validation)),
        device=frame.device,
    )


def _draw_numbers(table: pd.DataFrame, metric: str) -> None:
    unit = unit_of(metric)
    columns = {
        "scorer": "scorer",
        "control": "control",
        "seed": "seed",
        "value": unit.title(metric),
        "low": "95 % from",
        "high": "95 % to",
        "bar": unit.title("best of chance"),
        "verdict": "verdict",
        "samples": "samples",
        "split": "split",
        "status": "status",
        "message": "message",
    }
    unsound = int((table["status"] != "ok").sum())
    title = "Every point" + (f"; {unsound} without a sound number" if unsound else "")
    with st.expander(title):
        shown = table[list(columns)].rename(columns=columns)
        st.dataframe(shown.style.format(precision=unit.precision), hide_index=True, placeholder="")
