"""Plans of moving masks: points, rows, films, the command."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch

from sparsity_core.allocations import Global
from sparsity_core.cli import main
from sparsity_core.dynamic import RULES, Dense, RigL, SRigL, Static
from sparsity_core.dynamic.choice import options_from, rule_with
from sparsity_core.dynamic.film import Film
from sparsity_core.dynamic.planning import plan_moving
from sparsity_core.dynamic.trial import ended
from sparsity_core.errors import SparsityError
from sparsity_core.folder import default_folder
from sparsity_core.plans import plan_from_dict, row_from_dict
from sparsity_core.recipe import Training
from sparsity_core.store import Store
from tests.moving_task import FRESH, TRAINING, plan_of, task

__all__ = ["task"]


def test_points_by_eye(task):
    plan = plan_of(
        task,
        [RigL(), RULES.make("str"), RULES.make("sr-ste")],
        sparsities=[0.5, 0.75],
        seeds=[0, 1],
        matched=True,
    )
    assert plan.looks == [0, 7, 14, 21, 28, 30]
    names = [(t.rule, t.sparsity, t.matched) for t in plan.trainings() if t.seed == 0]
    learned = RULES.make("str")
    assert names == [
        (Dense(), 0.0, None),
        (Static(), 0.5, None),
        (Static(), 0.75, None),
        (RigL(), 0.5, None),
        (RigL(), 0.75, None),
        (learned, None, None),
        (RigL(), None, learned),
        (RULES.make("sr-ste"), 0.5, None),
    ]
    points = plan.points()
    assert len({point.id for point in points}) == len(points) == 2 * 8 * 6
    assert [len(group) for group in plan.groups(points)] == [6] * 16


def test_plans_are_plain_data(task):
    plan = plan_of(task, [RigL(), RULES.make("ac-dc"), SRigL(ablate=0.5)])
    again = plan_from_dict(json.loads(json.dumps(plan.to_dict())))
    assert again == plan
    assert again.digest == plan.digest
    assert [p.id for p in again.points()] == [p.id for p in plan.points()]
    assert plan.title.endswith(
        "moving masks, dense, static, rigl, ac-dc, srigl(ablate=0.5) at 0.75"
    )


def test_points_are_shared_by_plans_with_other_rules(task):
    one, other = plan_of(task), plan_of(task, [SRigL(), RigL(every=3)])
    assert {p.id for p in one.points()} < {p.id for p in other.points()}
    moved = plan_of(task, every=8)
    assert not {p.id for p in one.points()} & {p.id for p in moved.points()}


def test_rows_by_eye(task):
    plan = plan_of(task)
    rows = list(plan.run(task, plan.points()))
    assert [row.status for row in rows] == ["ok"] * 18
    dense, static, rigl = rows[5], rows[11], rows[17]
    assert (dense.training_cost, dense.inference_cost, dense.achieved_sparsity) == (1.0, 1.0, 0.0)
    # A quarter of 128 + 64 weights lives, and there is nothing else to multiply by.
    assert (static.inference_cost, static.achieved_sparsity) == (0.25, 0.75)
    assert static.training_cost == pytest.approx(0.25)
    assert sum(json.loads(static.layers).values()) == 48
    assert static.explored == 0.25
    # Updates at 3, 6, ..., 21: of the steps 7 take 2 f_S + f_D instead of 3 f_S.
    assert rigl.training_cost == pytest.approx((23 * 0.75 + 7 * 1.5) / 90)
    assert rigl.explored > 0.25
    assert rigl.born + rigl.returned == rigl.died == 0  # masks stand still since step 22
    assert sum(row.died for row in rows[12:18]) > 0
    for row in rows:
        last = row.step == 30
        assert (row.value is not None) == last
        assert (row.split, row.samples) == (("test", 50) if last else ("validation", 40))
        assert row_from_dict("moving", asdict(row)) == row


def test_a_look_changes_nothing(task):
    seldom, often = plan_of(task, every=30), plan_of(task, every=1)
    last = [
        {(r.rule, r.seed): r for r in plan.run(task, plan.points())} for plan in (seldom, often)
    ]
    for name, row in last[0].items():
        other = last[1][name]
        assert (row.value, row.validation_loss) == (other.value, other.validation_loss)
        assert (row.training_cost, row.explored) == (other.training_cost, other.explored)


def test_matched_has_the_counts_that_were_learned(task):
    learned = RULES.make("str", initial=-1.5)
    plan = plan_of(task, [learned], matched=True)
    matched = [p for p in plan.points() if p.training.matched][-1:]
    row = list(plan.run(task, matched))[-1]  # trains what it builds on by itself
    other = list(plan.run(task, [p for p in plan.points() if p.training.rule == learned]))[-1]
    assert 0 < other.achieved_sparsity < 1
    assert row.layers == other.layers
    assert (row.rule, row.matched) == ("rigl", "str(initial=-1.5)")


def test_sparse_execution_gives_the_simulated_numbers(task):
    rules = [RigL(every=3), RULES.make("srigl", every=3)]
    rows = [
        list(plan.run(task, plan.points()))
        for plan in (plan_of(task, rules, execution=e) for e in ("simulated", "sparse"))
    ]
    for one, other in zip(*rows, strict=True):
        assert one.validation_loss == pytest.approx(other.validation_loss, rel=1e-3)
        assert (one.layers, one.ablated, one.died) == (other.layers, other.ablated, other.died)
        assert other.execution == ("simulated" if other.rule == "dense" else "sparse")
    plan = plan_of(task, rules, execution="sparse")
    masks, state, film = ended(plan.trainings()[-1])
    assert list(state) == list(FRESH().state_dict())
    assert (state["0.weight"][~masks["0.weight"]] == 0).all()
    assert film.steps == plan.looks
    for options in ({"rules": [RULES.make("str")]}, {"rules": [RigL()], "matched": True}):
        with pytest.raises(SparsityError, match="choose simulated"):
            plan_of(task, execution="sparse", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rules": []}, "no rules chosen"),
        ({"sparsities": [90]}, "write 0.9 for 90"),
        ({"allocation": Global()}, "unknown distribution 'global'"),
        ({"execution": "fast"}, "unknown execution"),
        ({"every": 0}, "every must be 1"),
        ({"training": Training(steps=0)}, "at least one step"),
        ({"skip": ["nowhere"]}, "unknown layer"),
        ({"split": "all"}, "unknown split"),
    ],
)
def test_bad_plans_are_refused(task, options, message):
    given = {"rules": [RigL()], "training": TRAINING, "sparsities": [0.5]} | options
    with pytest.raises(SparsityError, match=message):
        plan_moving(task, **given)


def test_a_film_is_its_masks():
    make = torch.Generator().manual_seed(0)
    frames = [{"a": torch.rand(5, 7, generator=make) < 0.3} for _ in range(6)]
    film = Film.of(frames[0])
    for step, masks in enumerate(frames[:3]):
        film.add_(step, masks)
    film = Film.from_dict(film.to_dict())  # saved, and gone on with elsewhere
    for step, masks in enumerate(frames[3:], 3):
        film.add_(step, masks)
    assert film.steps == list(range(6))
    for shown, masks in zip(film.masks("a"), frames, strict=True):
        assert np.array_equal(shown, masks["a"].numpy())
    assert Film.of({"large": torch.ones(1024, 1024, dtype=torch.bool)}).shapes == {}


def test_rules_from_words():
    shared = {"every": 20, "drop": 0.5, "until": 0.6}
    assert rule_with("rigl", shared, {}) == RigL(20, 0.6, 0.5)
    assert rule_with("static", shared, {}) == Static()
    assert rule_with("set", shared, {}) == RULES.make("set", every=20, drop=0.5)
    own = options_from("srigl:ablate=0.5, mest:soft=true,mest:extra=0.1/0,mest:stages=0.5")
    assert rule_with("srigl", {}, own["srigl"]) == SRigL(ablate=0.5)
    mest = RULES.make("mest", soft=True, extra=(0.1, 0.0), stages=(0.5,))
    assert rule_with("mest", {}, own["mest"]) == mest
    assert options_from("srigl-2:4:drop=0.1") == {"srigl-2:4": {"drop": "0.1"}}
    for text in ("rigl", "rigl:drop", ":drop=1"):
        with pytest.raises(SparsityError, match="write RULE:NAME=VALUE"):
            options_from(text)
    with pytest.raises(SparsityError, match="no float"):
        rule_with("rigl", {}, {"drop": "much"})
    with pytest.raises(SparsityError, match="did you mean 'drop'"):
        rule_with("rigl", {}, {"dorp": "1"})


def test_the_command(task, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    words = ["train", "digits-mlp", "--rules", "rigl,autosparse", "--sparsity", ".9"]
    words += ["--steps", "6", "--every", "3", "--interval", "2", "--device", "cpu"]
    assert main([*words, "--out", str(tmp_path / "rows.csv")]) == 0
    shown = capsys.readouterr()
    assert "rigl(every=2)" in shown.out
    assert shown.out.count("6 of 6") == 4
    assert "simulated" in shown.out
    assert (tmp_path / "rows.csv").read_text().count("\n") == 1 + 4 * 3
    assert main(words) == 0
    assert "12 of 12 points are stored already" in capsys.readouterr().err
    there = tmp_path / "there"
    before = set((tmp_path / "checkpoints").iterdir())
    assert len(before) == 4
    assert main([*words, "--store", str(there)]) == 0
    assert {path.name for path in (there / "checkpoints").iterdir()} == {p.name for p in before}
    assert set((tmp_path / "checkpoints").iterdir()) == before
    assert default_folder() == tmp_path  # as before
    (run,) = Store(tmp_path).runs()
    assert main(["runs", run.id, "--delete"]) == 0
    assert not list((tmp_path / "checkpoints").iterdir())
    assert main([*words, "--options", "rigl:dorp=1"]) == 2
    assert main(["rules"]) == 0
    assert "sparse-momentum" in capsys.readouterr().out
