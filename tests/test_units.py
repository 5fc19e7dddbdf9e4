"""Numbers of metrics that are no share: shown as they are, on the side where they are worse."""

import json

import pandas as pd
import pytest
import torch

from app.run_charts import scatter
from app.run_table import compared, rows_table
from app.sensitivity_charts import all_layers, heatmap, one_layer
from app.sensitivity_table import frame_of
from sparsity_core.sweep.choice import sparsest_within
from sparsity_core.sweep.plan import plan_sweep
from sparsity_core.task import task_of
from sparsity_core.units import PER_CENT, RAW, around_dense, unit_of


def regression():
    """A line that two layers have learned nothing of, measured by its squared error."""
    torch.manual_seed(0)
    inputs = torch.randn(90, 4)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    return task_of(model, (inputs, model(inputs).detach() + 10), metric="mse")


@pytest.fixture(scope="module")
def rows():
    task = regression()
    plan = plan_sweep(task, scorers=["magnitude"], sparsities=[0.5, 0.9])
    return list(plan.run(task, plan.points()))


def test_units_by_eye():
    assert [unit_of(name) for name in ("accuracy", "agreement")] == [PER_CENT] * 2
    raw = ("loss", "mse", "mae", "r2", "perplexity", "cosine", "kl", "my.module:own")
    assert [unit_of(name) for name in raw] == [RAW] * 8
    assert PER_CENT.title("accuracy", "9 test samples") == "accuracy (%, 9 test samples)"
    assert RAW.title("mse", "9 test samples") == "mse (9 test samples)"
    assert RAW.title("mse") == "mse"


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [(3.0, 2.5, 3.25), (1.0, 0.75, 1.5)],
    ids=["higher is worse", "lower is worse"],
)
def test_the_interval_hangs_on_the_side_that_is_worse(value, low, high):
    table = pd.DataFrame(
        {
            "value": [value, 2.0, None],
            "dense_value": [2.0, 2.0, None],
            "drop": [1.0, 0.0, None],
            "drop_low": [0.5, -0.5, None],
            "drop_high": [1.25, 0.5, None],
        }
    )
    found = around_dense(table)
    assert found.loc[0].tolist() == [low, high]
    assert found.loc[1].tolist() == [1.5, 2.5]


def test_a_sweep_by_squared_error_is_drawn_in_its_own_numbers(rows):
    table = frame_of(rows)
    assert table["value"].tolist() == [row.value for row in rows]
    assert table["sparsity"].tolist() == [100 * row.sparsity for row in rows]
    assert (table["low"] <= table["value"]).all()
    assert (table["value"] <= table["high"]).all()
    layer = rows[0].layer
    for chart in (all_layers(table, layer, "mse"), one_layer(table, "mse")):
        drawn = json.dumps(chart.to_dict())
        assert f"mse ({rows[0].samples} validation samples)" in drawn
        assert f'"dense {rows[0].dense_value:.4g}"' in drawn
        assert "points" not in drawn.replace("changed nothing", "")
    drawn = json.dumps(heatmap(table, layer, RAW).to_dict())
    assert "change (+ is worse)" in drawn
    assert "(points)" not in drawn
    assert f"{rows[-1].drop:+.2g}" in drawn


def test_two_runs_by_squared_error_are_drawn_in_its_own_numbers(rows):
    joined = compared("sweep", rows_table(rows), rows_table(rows))
    drawn = json.dumps(scatter(joined, "layer", "mse").to_dict())
    assert '"title": "mse in A"' in drawn
    assert "points" not in drawn
    assert json.dumps(rows[0].value) in drawn


def test_the_answer_says_by_how_much_the_error_is_worse(rows):
    worse = min((row for row in rows if row.drop > 0), key=lambda row: row.sparsity, default=None)
    assert worse is not None
    said = [choice.message for choice in sparsest_within(rows, 0.0, cautious=False)]
    assert f"mse is worse by {worse.drop:.3g} at {100 * worse.sparsity:.4g} %" in said
