"""The Lottery ticket page: planned, trained, read, said in words, reopened."""

import shlex

import pytest
import torch

from app import cache
from app.behaviour_charts import class_table, reliability_table
from app.reopen import link_of, view_of
from app.ticket_behaviour import flips_table
from app.ticket_charts import against_left, frame_of, history_of, means
from app.ticket_line import barrier_chart, line_table
from app.ticket_masks import overlap_table
from app.ticket_source import Experiment, example
from app.ticket_words import tickets_command, tickets_python
from sparsity_core.cli import measure
from sparsity_core.cli.main import main
from sparsity_core.recipe import Training
from sparsity_core.setting import evaluation_samples
from sparsity_core.task import load_task
from sparsity_core.tickets.arm import ARMS
from sparsity_core.tickets.plan import plan_tickets
from sparsity_core.tickets.rule import Rule
from tests.app_session import open_page, own_store, texts, wait_for_jobs

__all__ = ["own_store"]

SMALL = {
    "model": "digits-mlp",
    "tickets-rounds": "2",
    "tickets-rate": "50",
    "tickets-last": "25",
    "tickets-seeds": "2",
    "tickets-steps": "20",
    "tickets-every": "10",
    "tickets-controls": ["random", "other-order"],
}


@pytest.fixture(scope="module")
def task():
    return load_task("digits-mlp")


def plan_of(task, **options):
    """The plan of SMALL."""
    usual = {
        "training": Training(
            steps=20, optimizer="adam", rate=0.003, batch_size=60, rate_schedule="constant"
        ),
        "rounds": 2,
        "rule": Rule(0.5, 0.25),
        "arms": ["random", "other-order"],
        "seeds": [0, 1],
        "every": 10,
    }
    return plan_tickets(task, **usual | options)


@pytest.fixture(scope="module")
def trained(task, tmp_path_factory):
    plan = plan_of(task, device="cpu", samples=100)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSITY_STORE", str(tmp_path_factory.mktemp("tickets")))
        experiment = Experiment(plan, list(plan.run(task, plan.points())))
        lives = {seed: experiment.lifetimes(seed, 0) for seed in plan.seeds}
    return experiment, lives


def test_trained_from_the_page_and_read_there(own_store, task):
    app = open_page("tickets", **SMALL)
    assert not app.exception
    assert app.button(key="start").label == "Train 16 networks"
    app.button(key="start").click().run()
    wait_for_jobs(300)
    app.run()
    assert not app.exception
    assert app.button(key="start").disabled
    said = texts(app)
    assert "2 rounds x 2 seeds x 3 arms: 16 trainings of 20 steps" in said
    assert ARMS["random"].asks in said
    for view in ("Training curves", "Overlap of seeds", "Connectivity", "Behaviour", "Numbers"):
        app.session_state["tickets-view"] = view
        app.run()
        assert not app.exception
    run = cache.store().runs()[0]
    opened = open_page("runs", run=run.id[:8])
    assert not opened.exception
    assert "16 of 16 points stored" in texts(opened)


@pytest.fixture(scope="module")
def shipped():
    found = example()
    assert found is not None
    return found


def test_the_example_is_what_its_command_makes(shipped, monkeypatch):
    made = {}
    monkeypatch.setattr(measure, "execute", lambda p, *_: made.update(plan=p) or 0)
    monkeypatch.setattr("sparsity_core.tickets.estimate.seconds_of", lambda *_: 60.0)
    _, *arguments = shlex.split(shipped.command)
    assert main([*arguments, "--device", "cpu"]) == 0
    assert made["plan"] == shipped.plan
    assert [row.point_id for row in shipped.rows] == [p.id for p in shipped.plan.points()]
    assert {row.status for row in shipped.rows} == {"ok"}


def test_the_masks_of_the_example_are_those_of_its_rows(shipped):
    for seed in shipped.plan.seeds:
        lives = shipped.lifetimes(seed, 0)
        size = sum(lived.numel() for lived in lives.values())
        for number in range(1, shipped.plan.rounds + 1):
            row = next(
                r for r in shipped.rows if (r.arm, r.seed, r.round) == ("ticket", seed, number)
            )
            zeros = sum(int((lived < number).sum()) for lived in lives.values())
            assert row.sparsity == pytest.approx(zeros / size, abs=1e-6)


def test_the_first_screen_is_the_example_and_the_form_says_its_plan(own_store, shipped):
    app = open_page("tickets", device="cpu")
    assert not app.exception
    assert "A finished example" in texts(app)
    assert f"`{shipped.command}` made this one, which ships with this version" in texts(app)
    assert app.button(key="start").label == f"Train {len(shipped.rows)} networks"
    for view in ("Training curves", "Overlap of seeds", "Connectivity", "Behaviour", "Numbers"):
        app.session_state["tickets-view"] = view
        app.run()
        assert not app.exception
    for what in ("Classes", "Calibration"):
        app.session_state["tickets-view"] = "Behaviour"
        app.session_state["tickets-behaviour"] = what
        app.run()
        assert not app.exception
    app.button(key="start").click().run()
    for job in cache.queue().jobs():
        job.cancel()
    assert cache.queue().get(shipped.plan.digest) is not None


@pytest.mark.parametrize(
    ("link", "message"),
    [
        ({"tickets-rewinds": ["700"]}, "rewind to a step from 0 to 599"),
        ({"tickets-rewinds": ["x"]}, "is no whole number"),
    ],
)
def test_bad_choices_are_said(own_store, link, message):
    app = open_page("tickets", model="digits-mlp", **link)
    assert not app.exception
    assert message in app.error[0].value


def test_the_command_and_the_python_make_the_same_plan(task, monkeypatch):
    plan = plan_of(task, device="cpu", rewinds=[0, 5], samples=50, control_rounds=[2])
    made = {}
    monkeypatch.setattr(measure, "execute", lambda p, *_: made.update(command=p) or 0)
    _, *arguments = shlex.split(tickets_command(plan))
    assert main(arguments) == 0
    assert made["command"] == plan
    code = tickets_python(plan).rsplit("rows = ", 1)[0]
    found = {}
    exec(code, found)  # what the page offers to copy
    assert found["plan"] == plan


def test_a_training_that_no_command_can_say_is_told(task):
    plan = plan_of(task, training=Training(steps=20, clip=1.0))
    assert tickets_command(plan).startswith("#")
    assert view_of(plan, []) is None


def test_a_stored_plan_fills_the_form(own_store, task):
    plan = plan_of(task, device="cpu", rewinds=[0, 5])
    view = view_of(plan, [])
    link = link_of(view)
    assert link["tickets-rewinds"] == ["0", "5"]
    app = open_page("tickets", model="digits-mlp", device="cpu", **link)
    assert not app.exception
    app.button(key="start").click().run()
    for job in cache.queue().jobs():
        job.cancel()
    assert cache.queue().get(plan.digest) is not None


def test_rows_become_per_cent_by_arm(trained):
    experiment, _ = trained
    table = frame_of(experiment.rows)
    dense = table[(table["arm"] == "ticket") & (table["round"] == 0)]
    assert set(dense["left"]) == {100.0}
    assert set(table["series"]) == {"Ticket", "Random", "Other order"}
    by_hand = [100 * row.value for row in experiment.rows if (row.arm, row.round) == ("random", 2)]
    shown = means(table, "value").set_index(["series", "round"]).loc[("Random", 2)]
    assert shown["value"] == pytest.approx(sum(by_hand) / 2)
    assert (shown["low"], shown["high"]) == (min(by_hand), max(by_hand))
    chart = against_left(table, "value", "accuracy (%)", dense=[90.0, 92.0]).to_dict()
    assert len(chart["layer"]) == 6


def test_several_rewinds_are_several_series_from_one_dense_network(task, tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSITY_STORE", str(tmp_path))
    plan = plan_of(task, arms=["ticket"], rewinds=[0, 5], rounds=1, seeds=[0])
    table = frame_of(list(plan.run(task, plan.points())))
    both = table[table["series"].str.contains("rewound")]
    assert sorted(zip(both["series"], both["round"], strict=True)) == [
        ("Ticket, rewound to 0", 0),
        ("Ticket, rewound to 0", 1),
        ("Ticket, rewound to 5", 0),
        ("Ticket, rewound to 5", 1),
    ]


def test_histories_mark_their_early_stop(trained):
    experiment, _ = trained
    own = [row for row in experiment.rows if (row.arm, row.seed) == ("ticket", 0)]
    looks = history_of(own)
    assert list(looks["step"][:3]) == [0, 10, 20]
    assert list(looks[looks["early"]]["step"]) == [row.early_stop for row in own]


def test_masks_of_seeds_are_compared_beside_chance(trained):
    _, lives = trained
    table = overlap_table(lives)
    one, other = (lives[seed]["fc2.weight"] >= 2 for seed in (0, 1))
    both = int((one & other).sum())
    line = table[(table["round"] == 2) & (table["layer"] == "fc2.weight")].iloc[0]
    assert line["shared"] == pytest.approx(100 * both / int(one.sum()))
    assert line["chance"] == pytest.approx(25)


def test_the_barrier_is_marked_where_it_is(trained):
    experiment, _ = trained
    rows = [row for row in experiment.rows if row.line]
    table, peaks = line_table(rows)
    assert len(table) == 30 * len(rows)
    for (_, at, mean, worst), row in zip(peaks.itertuples(index=False), rows, strict=True):
        assert worst - mean == pytest.approx(100 * row.barrier, abs=1e-3)
        assert 0 <= at <= 1


def test_every_layer_of_the_barriers_has_something_to_draw(shipped):
    table = frame_of([row for row in shipped.rows if row.line])
    chart = barrier_chart(table).to_dict()
    drawn = [layer.get("data", chart.get("data"))["name"] for layer in chart["layer"]]
    assert [len(chart["datasets"][name]) for name in drawn] == [9, 9, 9, 1]  # rounds, the limit


def test_behaviour_tables(task, trained):
    experiment, _ = trained
    targets = evaluation_samples(task, experiment.plan.setting).targets
    table = flips_table(experiment.rows, targets)
    assert len(table) == sum(row.round > 0 for row in experiment.rows)
    row = experiment.rows[0]
    (line,) = (
        class_table({"dense": [row.class_values]}, task.classes)
        .query("`class` == '3'")
        .to_dict("records")
    )
    assert line["low"] == line["high"] == line["accuracy"]
    bins = reliability_table({"dense": [row.reliability] * 2})
    assert bins["samples"].sum() == 2 * row.samples
    right = (bins["samples"] * bins["accuracy"]).sum() / bins["samples"].sum()
    assert right == pytest.approx(100 * row.value, abs=1e-3)
    assert torch.is_tensor(targets)
