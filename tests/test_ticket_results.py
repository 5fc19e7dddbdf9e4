"""What is read out of ticket rows: verdicts, behaviour, lifetimes; and the command for them."""

import json
from dataclasses import replace

import pandas as pd
import pytest
import torch

from sparsity_core.behaviour import unpacked
from sparsity_core.cli.main import main
from sparsity_core.errors import SparsityError
from sparsity_core.recipe import Training
from sparsity_core.setting import evaluation_samples
from sparsity_core.store import Store
from sparsity_core.task import load_task
from sparsity_core.tickets.behaviour import against_dense, noise_floor
from sparsity_core.tickets.estimate import size_of
from sparsity_core.tickets.lifetimes import lifetimes_of, masks_in
from sparsity_core.tickets.lifetimes import packed as packed_lives
from sparsity_core.tickets.lifetimes import unpacked as unpacked_lives
from sparsity_core.tickets.plan import plan_tickets
from sparsity_core.tickets.reading import Reading, readings
from sparsity_core.tickets.rule import Rule
from sparsity_core.tickets.trial import saved_end


@pytest.fixture(autouse=True)
def _own_files(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSITY_STORE", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(scope="module")
def task():
    return load_task("digits-mlp")


@pytest.fixture(scope="module")
def trained(task, tmp_path_factory):
    """Two rounds with two seeds, a control; rows and the masks of each seed's chain."""
    plan = plan_tickets(
        task,
        training=Training(steps=40, optimizer="adam", rate=2e-3, batch_size=50),
        rounds=2,
        rule=Rule(0.5),
        arms=["reinitialised"],
        seeds=[0, 1],
        every=20,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSITY_STORE", str(tmp_path_factory.mktemp("results")))
        rows = list(plan.run(task, plan.points()))
        ends = [saved_end(plan, plan.point(s, "ticket", 0, n)) for s in (0, 1) for n in (1, 2)]
    chains = {s: [end.masks for end in ends[2 * s : 2 * s + 2]] for s in (0, 1)}
    return plan, rows, chains


def row_of(rows, arm, number, seed):
    return next(r for r in rows if (r.arm, r.round, r.seed) == (arm, number, seed))


# Lifetimes


def test_lifetimes_by_eye():
    chain = [
        {"a": torch.tensor([[True, True], [False, True]])},
        {"a": torch.tensor([[True, False], [False, True]])},
    ]
    lives = lifetimes_of(chain)
    assert lives["a"].tolist() == [[2, 1], [0, 2]]
    assert masks_in(lives, 0)["a"].all()
    for number, masks in enumerate(chain, start=1):
        assert torch.equal(masks_in(lives, number)["a"], masks["a"])
    with pytest.raises(SparsityError, match="came back"):
        lifetimes_of(chain[::-1])


def test_lifetimes_hold_real_masks_and_travel_as_text(trained):
    _, _, chains = trained
    lives = unpacked_lives(json.loads(json.dumps(packed_lives(lifetimes_of(chains[0])))))
    for number, masks in enumerate(chains[0], start=1):
        found = masks_in(lives, number)
        assert all(torch.equal(found[name], masks[name]) for name in masks)


# Behaviour


def test_rows_say_what_the_network_did(task, trained):
    plan, rows, _ = trained
    targets = evaluation_samples(task, plan.setting).targets
    for row in rows:
        right = unpacked(row.predictions) == targets
        assert right.double().mean().item() == pytest.approx(row.value)
        per_class = json.loads(row.class_values)
        counts = torch.bincount(targets, minlength=10)
        mean = sum(a * int(n) for a, n in zip(per_class, counts, strict=True)) / len(targets)
        assert mean == pytest.approx(row.value, abs=1e-5)
        bins = json.loads(row.reliability)
        assert sum(count for count, _, _ in bins) == row.samples
        gaps = sum(n * abs(a - c) for n, c, a in bins if n) / row.samples
        assert row.calibration_error == pytest.approx(gaps, abs=1e-5)


def test_flips_stand_beside_those_of_two_dense_networks(task, trained):
    plan, rows, _ = trained
    targets = evaluation_samples(task, plan.setting).targets
    sparse = against_dense(rows, targets)
    assert [row.point_id for row, _ in sparse] == [row.point_id for row in rows if row.round]
    for row, found in sparse:
        dense = row_of(rows, "ticket", 0, row.seed)
        assert (found.gained - found.lost) / len(targets) == pytest.approx(row.value - dense.value)
    ((a, b, floor),) = noise_floor(rows, targets)
    assert (a.seed, b.seed) == (0, 1)
    different = unpacked(a.predictions) != unpacked(b.predictions)
    assert floor.changed == pytest.approx(different.double().mean().item())
    assert noise_floor([row for row in rows if row.seed == 0], targets) == []


# Readings


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [((0.01,), "unsure"), ((-0.02, -0.03, -0.025), "worse"), ((0.02, -0.03, 0.01), "level")]
    + [((0.02, 0.021, 0.019), "better")],
)
def test_verdicts_by_eye(differences, verdict):
    reading = Reading("random", 0, 2, 0.9, differences)
    assert reading.verdict == verdict
    expected = {"unsure": "One seed says little", "worse": "The counts in each layer are not"}
    assert reading.means.startswith(expected.get(verdict, "The counts in each layer explain"))


def test_arms_are_paired_with_the_ticket_and_the_ticket_with_dense(trained):
    _, rows, _ = trained
    ticket, control = readings(rows, 2)
    assert (ticket.arm, control.arm) == ("ticket", "reinitialised")
    for seed in (0, 1):
        value = {arm: row_of(rows, arm, 2, seed).value for arm in ("ticket", "reinitialised")}
        dense = row_of(rows, "ticket", 0, seed).value
        assert ticket.differences[seed] == pytest.approx(value["ticket"] - dense)
        gap = value["reinitialised"] - value["ticket"]
        assert control.differences[seed] == pytest.approx(gap)
    early = readings(rows, 2, early=True)[1].differences[0]
    one, other = (row_of(rows, arm, 2, 0).early_value for arm in ("reinitialised", "ticket"))
    assert early == pytest.approx(one - other)
    assert readings(rows, 0) == []
    without = [replace(row, value=None) if row.arm == "ticket" else row for row in rows]
    assert readings(without, 2) == []


# The estimate and the command


def test_the_cost_in_words(trained):
    plan, _, _ = trained
    # Per seed: the dense network, and two rounds of two arms.
    assert size_of(plan) == "2 rounds x 2 seeds x 2 arms: 10 trainings of 40 steps"


def test_the_command_trains_and_takes_what_is_stored(tmp_path, capsys):
    out = tmp_path / "rows.csv"
    words = "tickets digits-mlp --rounds 1 --rate .5 --steps 20 --seeds 0,1 --rewind 5"
    arguments = [*words.split(), "--controls", "reinitialised,random", "--out", str(out)]
    assert main(arguments) == 0
    said = capsys.readouterr()
    assert "1 round x 2 seeds x 3 arms: 8 trainings of 20 steps: about" in said.err
    table = pd.read_csv(out)
    assert list(table["arm"][:4]) == ["ticket", "ticket", "reinitialised", "random"]
    # Half of both hidden layers goes, and half of that share of the last.
    assert table["sparsity"][1] == (64 * 300 / 2 + 300 * 100 / 2 + 1000 / 4) / 50_200
    (run,) = Store().runs()
    assert (run.kind, run.state, run.done) == ("tickets", "done", 8)
    assert main(arguments) == 0
    assert "8 of 8 points are stored already" in capsys.readouterr().err
    assert main(["runs", run.id[:8]]) == 0
    assert "reinitialised" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [("--controls nothing", "unknown arm"), ("--rewind x", "rewind: 'x' is not a number")]
    + [("--steps 0", "at least one step")],
)
def test_bad_words_are_one_line(words, message, capsys):
    assert main(["tickets", "digits-mlp", *words.split()]) == 2
    assert message in capsys.readouterr().err
