"""Lottery tickets: the rule by eye, each arm what it promises, the whole against a plain loop."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sample_models.initial import glorot_normal_
from sample_models.mlp import MLP
from sparsity_core import checkpoint
from sparsity_core.data import Split
from sparsity_core.errors import SparsityError
from sparsity_core.executors import WorkerProcesses
from sparsity_core.folder import default_folder
from sparsity_core.jobs import Job
from sparsity_core.plans import plan_from_dict, row_from_dict
from sparsity_core.rates import rate_at
from sparsity_core.recipe import Training
from sparsity_core.setting import draw_batches
from sparsity_core.store import Store
from sparsity_core.task import ACCURACY, Task, load_task
from sparsity_core.tickets.arm import ARMS
from sparsity_core.tickets.connectivity import Line, between, line_between
from sparsity_core.tickets.corrupt import corrupted
from sparsity_core.tickets.estimate import seconds_of
from sparsity_core.tickets.fresh import fresh_model
from sparsity_core.tickets.overlap import overlap
from sparsity_core.tickets.plan import plan_tickets
from sparsity_core.tickets.rule import Rule, shuffled
from sparsity_core.tickets.trial import end_of, masks_of, saved_end, seen_so_far, start_of
from sparsity_core.tickets.watched import Watched, train_watched_
from sparsity_core.train import evaluate
from sparsity_core.weights import prunable

TRAINING = Training(steps=30, optimizer="adam", rate=2e-3, batch_size=50, rate_schedule="constant")


@pytest.fixture(scope="module")
def task():
    return load_task("digits-mlp")


@pytest.fixture(autouse=True)
def _own_files(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSITY_STORE", str(tmp_path))


def plan_of(task, **options):
    usual = {"training": TRAINING, "rounds": 2, "rule": Rule(0.5), "every": 10}
    return plan_tickets(task, **usual | options)


def numbers(row):
    return asdict(row) | {"seconds": 0}


def same(a, b):
    return all(torch.equal(a[key], b[key]) for key in a)


# The rule


def test_a_round_by_eye():
    weights = {
        "a": torch.tensor([[1.0, -5.0, 2.0], [4.0, -3.0, 0.0]]),
        "b": torch.tensor([[10.0, -20.0], [30.0, -40.0]]),
    }
    rule = Rule(share=0.5, last_share=0.25)
    first = rule.masks(weights, {})
    assert first["a"].tolist() == [[False, True, False], [True, True, False]]
    assert first["b"].tolist() == [[False, True], [True, True]]
    # Half of three is a half too much: the nearest count that keeps more.
    second = rule.masks(weights, first)
    assert second["a"].tolist() == [[False, True, False], [True, False, False]]
    assert second["b"].tolist() == [[False, False], [True, True]]
    whole = Rule(share=0.5, scope="global").masks(weights, {})
    assert whole["a"].tolist() == [[False, True, False], [False, False, False]]
    assert whole["b"].all()
    apart = Rule(share=0.5, last_share=0.0, scope="global").masks(weights, {})
    assert int(apart["a"].sum()) == 3
    assert apart["b"].all()


def test_what_is_dead_stays_dead_whatever_its_weight():
    weights = {"a": torch.tensor([[9.0, 1.0, 2.0, 3.0]])}
    masks = {"a": torch.tensor([[False, True, True, True]])}
    assert Rule(0.34).masks(weights, masks)["a"].tolist() == [[False, False, True, True]]


def test_rounds_leave_what_the_paper_says():
    # P_m of LeNet-300-100 (Frankle & Carbin 2019, figures 3 and 4).
    torch.manual_seed(0)
    weights = {n: p for n, p in MLP(784).named_parameters() if p.dim() == 2}
    size = sum(w.numel() for w in weights.values())
    assert size == 266_200
    rule, masks, left = Rule(0.2, 0.1), {}, []
    for _ in range(18):
        masks = rule.masks(weights, masks)
        left.append(100 * sum(int(m.sum()) for m in masks.values()) / size)
    paper = {3: 51.3, 7: 21.1, 9: 13.5, 12: 7.0, 15: 3.6, 16: 2.9, 18: 1.9}
    assert {k: round(left[k - 1], 1) for k in paper} == paper


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_the_rule_is_the_slow_sort(scope):
    make = torch.Generator().manual_seed(1)
    weights = {n: torch.randn(k, 7, generator=make) for n, k in (("a", 9), ("b", 4), ("c", 3))}
    masks = {n: torch.rand(w.shape, generator=make) < 0.6 for n, w in weights.items()}
    found = Rule(0.3, scope=scope).masks(weights, masks)
    pools = [list(weights)] if scope == "global" else [[n] for n in weights]
    for pool in pools:
        alive = sorted(
            (abs(float(weights[n].flatten()[i])), n, i)
            for n in pool
            for i in range(weights[n].numel())
            if masks[n].flatten()[i]
        )
        gone = {(n, i) for _, n, i in alive[: round(0.3 * len(alive))]}
        for n in pool:
            for i, stays in enumerate(found[n].flatten().tolist()):
                assert stays == (bool(masks[n].flatten()[i]) and (n, i) not in gone)


@pytest.mark.parametrize(
    "options", [{"share": 1.5}, {"share": -0.1}, {"last_share": 20}, {"scope": "layers"}]
)
def test_bad_rules(options):
    with pytest.raises(SparsityError):
        Rule(**options)


def test_a_shuffled_mask_has_the_same_counts_elsewhere():
    make = torch.Generator().manual_seed(1)
    masks = {n: torch.rand(40, 30, generator=make) < 0.3 for n in "ab"}
    dealt = shuffled(masks, 0)
    for name, mask in masks.items():
        assert dealt[name].sum() == mask.sum()
        overlap = int((dealt[name] & mask).sum()) / int(mask.sum())
        assert overlap == pytest.approx(0.3, abs=0.08)  # chance
    assert not torch.equal(dealt["a"], shuffled({"a": masks["a"], "b": masks["a"]}, 0)["b"])
    assert same(dealt, shuffled(masks, 0))
    assert not same(dealt, shuffled(masks, 1))


# Untrained models


def test_fresh_models_are_drawn_by_seed(task):
    trained = {k: v.clone() for k, v in task.model.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    one, again, other = (fresh_model(task, s).state_dict() for s in (0, 0, 1))
    assert torch.equal(torch.rand(2), expected)
    assert same(one, again)
    assert not same(one, other)
    assert same(trained, task.model.state_dict())
    torch.manual_seed(0)
    assert same(one, MLP(64).state_dict())


def task_of(model):
    split = Split(torch.randn(4, 6), torch.zeros(4, dtype=torch.long))
    return Task("some", model.eval(), split, split, split)


def test_without_a_builder_every_module_draws_its_own():
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    model(torch.randn(10, 6))
    found = fresh_model(task_of(model), 1)
    assert not torch.equal(found[0].weight, model[0].weight)
    assert found[1].running_mean.tolist() == [0] * 4
    assert model[1].running_mean.abs().sum() > 0

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))

    with pytest.raises(SparsityError, match=r"1\.scale cannot be drawn again: Own has no reset"):
        fresh_model(task_of(nn.Sequential(nn.Linear(6, 3), Own())), 0)


def test_the_papers_first_weights():
    torch.manual_seed(0)
    model = glorot_normal_(MLP(784))
    for layer in (model.fc1, model.fc2):
        expected = math.sqrt(2 / sum(layer.weight.shape))
        assert float(layer.weight.detach().std()) == pytest.approx(expected, rel=0.02)
        assert not layer.bias.any()


def test_corrupted_data_has_the_same_values_and_labels_elsewhere(task):
    found = corrupted(task.train, 3)
    assert torch.equal(
        found.inputs.flatten(1).sort().values, task.train.inputs.flatten(1).sort().values
    )
    assert torch.equal(found.targets.sort().values, task.train.targets.sort().values)
    assert float((found.targets == task.train.targets).float().mean()) < 0.2
    assert not torch.equal(found.inputs, task.train.inputs)
    # Each sample in its own order: no pixel keeps its statistics.
    assert float(found.inputs.mean(0).std()) < 0.2 * float(task.train.inputs.mean(0).std())
    assert torch.equal(found.inputs, corrupted(task.train, 3).inputs)
    assert not torch.equal(found.inputs, corrupted(task.train, 4).inputs)


# Early stop


def test_the_early_stop_is_the_first_of_the_lowest():
    seen = Watched(steps=[0, 10, 20, 30], losses=[2.0, 0.5, 0.7, 0.5])
    assert seen.early_stop == 10


def test_the_model_of_the_early_stop_is_kept(task):
    plan = plan_of(task, training=replace(TRAINING, rate=0.05, steps=120), every=20)
    course = start_of(task, plan, plan.points()[0])
    seen = train_watched_(course, task.validation, ACCURACY, 20)
    assert seen.steps == list(range(0, 121, 20))
    assert seen.train_losses[0] is None
    assert 0 < seen.early_stop < 120
    again = start_of(task, plan, plan.points()[0])
    again.advance_(seen.early_stop)
    assert same(seen.best, again.state())


# Arms

BEFORE = [name for name, arm in ARMS.items() if arm.scorer]


@pytest.fixture(scope="module")
def trained(task, tmp_path_factory):
    """A plan with everything in it, and its rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSITY_STORE", str(tmp_path_factory.mktemp("tickets")))
        plan = plan_of(task, arms=list(ARMS), rewinds=[0, 7])
        torch.set_num_threads(1)
        yield plan, list(plan.run(task, plan.points()))


def start(task, plan, arm, rewind=0, number=2):
    return start_of(task, plan, plan.point(0, arm, rewind, number))


def test_every_arm_and_round_has_its_row(trained):
    plan, rows = trained
    assert [row.status for row in rows] == ["ok"] * len(rows)
    assert [row.point_id for row in rows] == [point.id for point in plan.points()]
    # Dense: once for the ticket and on corrupted data, at both rewinds for the other order; then
    # all arms at both, but the last round on corrupted data, which nothing builds on, and what is
    # pruned before training, which is trained once.
    assert len(rows) == 1 + 1 + 2 + 2 * 2 * len(ARMS) - 2 - 2 * len(BEFORE)
    for row in rows:
        left = 1.0 if row.arm == "dense" else 0.5**row.round
        assert row.sparsity == pytest.approx(1 - left, abs=1e-4)
        assert (row.barrier is None) == (row.arm != "other-order")
        assert row.barrier_recalibrated is None  # no batch norm
        history = json.loads(row.history)
        anew = ("reinitialised", "random", *BEFORE)
        begun = row.rewind if row.round and row.arm not in anew else 0
        begun = row.rewind if row.arm == "other-order" else begun
        assert history["step"] == sorted({begun, 10, 20, 30})
        assert row.early_stop in history["step"]
        assert row.validation_loss == pytest.approx(min(history["loss"]), abs=1e-6)
        if row.early_stop == 30:
            assert row.early_value == row.value


def test_what_each_arm_starts_from(task, trained):
    plan, _ = trained
    first = fresh_model(task, 0).state_dict()
    ticket = start(task, plan, "ticket")
    counts = {name: int(mask.sum()) for name, mask in ticket.masks.items()}
    assert ticket.step == 0
    assert counts == {"fc1.weight": 4800, "fc2.weight": 7500, "fc3.weight": 250}

    def rewound(course):
        return all(
            torch.equal(course.state()[name], first[name] * course.masks.get(name, 1))
            for name in first
        )

    assert rewound(ticket)
    for arm, own_weights, own_mask in (
        ("one-shot", True, None),
        ("reinitialised", False, True),
        ("shuffled", True, False),
        ("random", False, False),
        ("corrupted", True, False),
        ("other-order", True, True),
    ):
        course = start(task, plan, arm)
        assert {name: int(mask.sum()) for name, mask in course.masks.items()} == counts
        assert rewound(course) == own_weights, arm
        if own_mask is not None:
            assert same(course.masks, ticket.masks) == own_mask, arm
    assert torch.equal(start(task, plan, "corrupted").split.inputs, task.train.inputs)
    finder = start(task, plan, "corrupted-finder", number=1)
    assert rewound(finder)
    assert same(finder.masks, start(task, plan, "corrupted", number=1).masks)
    assert not torch.equal(finder.split.inputs, task.train.inputs)
    assert start(task, plan, "other-order").seed != ticket.seed
    assert start(task, plan, "shuffled").seed == ticket.seed
    assert start(task, plan, "dense").masks == {}
    assert not same(start(task, plan, "random").masks, start(task, plan, "shuffled").masks)


def test_before_training_the_scorer_chooses_of_all_first_weights_together(task):
    assert BEFORE == ["snip", "grasp", "synflow"]
    plan = plan_of(task, arms=BEFORE, rewinds=[7])
    course = start(task, plan, "snip", 7)
    assert course.step == 0
    model = fresh_model(task, 0)
    batches = draw_batches(task.train, plan.setting.score_samples, 0, "cpu")
    inputs, targets = (torch.cat(part) for part in zip(*batches, strict=True))
    F.cross_entropy(model(inputs), targets).backward()
    weights = {n: p for n, p in model.named_parameters() if n in course.masks}
    scores = torch.cat([(p * p.grad).abs().flatten() for p in weights.values()])
    kept = torch.cat([course.masks[name].flatten() for name in weights])
    assert int(kept.sum()) == 4800 + 7500 + 250  # the ticket's after two rounds
    assert scores[kept].min() > scores[~kept].max() * (1 - 1e-4)  # sums in another order
    for name, weight in weights.items():
        assert torch.equal(course.state()[name], weight.detach() * course.masks[name])


@pytest.mark.parametrize("arm", ["grasp", "synflow"])
def test_each_scorer_before_training_has_the_ticket_s_count(task, arm):
    course = start(task, plan_of(task, arms=[arm]), arm)
    assert sum(int(mask.sum()) for mask in course.masks.values()) == 4800 + 7500 + 250
    assert all(mask.any() for mask in course.masks.values())


def test_one_shot_masks_come_from_the_dense_network_at_once(task, trained):
    plan, _ = trained
    dense = end_of(task, plan, plan.points()[0])
    masks = masks_of(task, plan, plan.point(0, "one-shot", 0, 2))
    for name in prunable(task.model):
        sizes = dense.state[name].abs()
        assert sizes[masks[name]].min() >= sizes[~masks[name]].max()


def test_rewinding_to_a_step_takes_momentum_and_order_along(task, trained):
    plan, _ = trained
    dense = start(task, plan, "ticket", number=0)
    dense.advance_(7)
    course = start(task, plan, "ticket", rewind=7)
    assert course.step == 7
    for name, value in course.state().items():
        assert torch.equal(value, dense.state()[name] * course.masks.get(name, 1))
    names = [name for name, _ in course.model.named_parameters()]
    for i, moments in course.place().optimizer["state"].items():
        before = dense.place().optimizer["state"][i]
        mask = course.masks.get(names[i], torch.tensor(1))
        for key in ("exp_avg", "exp_avg_sq"):
            assert torch.equal(moments[key], before[key] * mask)
        assert moments["step"] == 7
    assert torch.equal(course._next_indices(), dense._next_indices())


def test_rate_rewinding_keeps_the_trained_weights(task, trained):
    plan, _ = trained
    ended = end_of(task, plan, plan.point(0, "rate-rewinding", 7, 1))
    course = start(task, plan, "rate-rewinding", rewind=7)
    assert course.step == 7
    for name, value in course.state().items():
        assert torch.equal(value, ended.state[name] * course.masks.get(name, 1))
    onward = start(task, plan, "dense", number=1)
    assert same(onward.state(), end_of(task, plan, plan.points()[0]).state)


def test_two_rounds_are_a_plain_loop(task, trained):
    plan, _ = trained
    masks = {}
    for number in range(3):
        model = fresh_model(task, 0)
        weights = {n: p for n, p in model.named_parameters() if p.dim() == 2}
        optimizer = torch.optim.Adam(model.parameters(), 2e-3, foreach=False)
        order = torch.Generator().manual_seed(0)
        indices = [
            batch
            for _ in range(2)
            for batch in torch.randperm(len(task.train), generator=order).split(50)
        ]
        with torch.no_grad():
            for name, mask in masks.items():
                weights[name].mul_(mask)
        for batch in indices[:30]:
            optimizer.zero_grad()
            F.cross_entropy(model(task.train.inputs[batch]), task.train.targets[batch]).backward()
            for name, mask in masks.items():
                weights[name].grad.mul_(mask)
            optimizer.step()
        end = end_of(task, plan, plan.point(0, "ticket", 0, number))
        assert same(masks, end.masks)
        for name, weight in model.state_dict().items():
            assert torch.allclose(weight, end.state[name], atol=2e-5)
        masks = {}
        for name, weight in weights.items():
            pruned = weight.numel() - weight.numel() // 2 ** (number + 1)
            smallest = weight.detach().abs().flatten().argsort()[:pruned]
            masks[name] = torch.ones(weight.numel(), dtype=torch.bool)
            masks[name][smallest] = False
            masks[name] = masks[name].reshape(weight.shape)


# Plans, rows, files


def test_plans_and_rows_are_plain_data(task, trained):
    plan, rows = trained
    again = plan_from_dict(json.loads(json.dumps(plan.to_dict())))
    assert again == plan
    assert again.points() == plan.points()
    assert len({point.id for point in plan.points()}) == len(plan.points())
    for row in rows:
        assert row_from_dict("tickets", json.loads(json.dumps(asdict(row)))) == row
    plan.check(task)


def test_more_seeds_rounds_or_arms_keep_the_points_there_are(task):
    small = plan_of(task)
    large = plan_of(task, rounds=4, seeds=[0, 5], arms=list(ARMS), rewinds=[0, 3])
    ids = {point.id for point in large.points()}
    assert {point.id for point in small.points()} < ids
    assert plan_of(task, rule=Rule(0.4)).points()[0].id not in ids
    assert [len(group) for group in large.groups(large.points())] == [len(ids) // 2] * 2


def test_epochs_and_as_many_steps_are_one_plan(task):
    epochs = replace(TRAINING, steps=None, epochs=2, batch_size=400)
    assert len(task.train) % 400 != 0
    steps = 2 * math.ceil(len(task.train) / 400)
    assert plan_of(task, training=epochs) == plan_of(task, training=replace(epochs, steps=steps))


def test_controls_in_some_rounds_only(task):
    plan = plan_of(task, arms=["random", "dense"], control_rounds=[2])
    found = [(point.arm, point.round) for point in plan.points()]
    assert found == [("ticket", 0), ("ticket", 1), ("dense", 1)] + [
        (arm, 2) for arm in ("ticket", "random", "dense")
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arms": []}, "no arms"),
        ({"arms": ["shufled"]}, "did you mean 'shuffled'"),
        ({"rewinds": [30]}, "rewind to a step from 0 to 29, got 30"),
        ({"seeds": []}, "no seeds"),
        ({"rounds": -1}, "rounds must be 0 or more"),
        ({"training": replace(TRAINING, steps=0)}, "at least one step"),
        ({"control_rounds": [3]}, "control rounds are from 0 to 2"),
        ({"every": 0}, "every must be 1"),
    ],
)
def test_bad_requests_name_the_remedy(options, message, task):
    with pytest.raises(SparsityError, match=message):
        plan_of(task, **options)


def test_another_start_or_other_data_are_noticed(task):
    plan = plan_of(task)
    with pytest.raises(SparsityError, match="fresh digest has changed"):
        plan.check(replace(task, fresh=lambda: glorot_normal_(MLP(64))))
    with pytest.raises(SparsityError, match="validation digest has changed"):
        plan.check(replace(task, validation=task.validation.take(100)))


def test_an_emptied_layer_is_no_verdict(task):
    plan = plan_of(task, rule=Rule(0.5, last_share=1.0), rounds=1)
    *_, row = plan.run(task, plan.points())
    assert row.status == "collapsed"
    assert "fc3.weight" in row.message
    assert row.value is not None


def test_lost_files_are_made_again(task, trained, tmp_path):
    plan, rows = trained
    # This test has a folder of its own, where none of the rounds before lies.
    point = plan.point(0, "rate-rewinding", 7, 2)
    (row,) = plan.run(task, [point])
    (before,) = (r for r in rows if r.point_id == point.id)
    assert numbers(row) == numbers(before)
    names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    chain = [plan.points()[0], plan.point(0, "rate-rewinding", 7, 1), point]
    assert names == {f"{p.id}.pt" for p in chain}
    shorter, store = replace(plan, rounds=1), Store(tmp_path)
    for each in (plan, shorter):
        store.save_run(each, "done")
    store.delete_run(plan.digest)
    names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert names == {f"{p.id}.pt" for p in chain[:2]}  # what the other run has


def test_a_damaged_file_is_named(task, tmp_path):
    checkpoint.save("some", {"a": torch.ones(2), "b": [1, None]})
    assert checkpoint.load("some")["b"] == [1, None]
    path = checkpoint.checkpoint_path("some")
    assert path.parent.parent == tmp_path
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(SparsityError, match=r"some\.pt: is damaged .*delete it"):
        checkpoint.load("some")
    checkpoint.delete("some")
    assert checkpoint.load("some") is None


KILLED = """
import json, sys, torch
from sparsity_core import checkpoint
from sparsity_core.plans import plan_from_dict
from sparsity_core.task import load_task
torch.set_num_threads(1)
checkpoint._LOST = 0.0
plan = plan_from_dict(json.load(sys.stdin))
for row in plan.run(load_task(plan.model), plan.points()):
    print(row.round, flush=True)
"""


def test_killed_in_mid_round_it_goes_on_with_the_same_numbers(task, tmp_path, monkeypatch):
    training = replace(TRAINING, steps=300, optimizer="sgd", rate=0.05, rate_schedule="cosine")
    plan = plan_of(task, training=training, rewinds=[20], rounds=1, every=10)
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    process.stdin.write(json.dumps(plan.to_dict()))
    process.stdin.close()
    assert process.stdout.readline() == "0\n"
    under_way = checkpoint.checkpoint_path(f"{plan.points()[1].id}-under-way")
    while not under_way.exists():
        assert process.poll() is None
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdout.read() == ""
    process.stdout.close()
    saved = torch.load(under_way, weights_only=True)
    assert 20 < saved["place"]["step"] < 300
    steps = []

    def noted(training, step, count):
        steps.append(step)
        return rate_at(training, step, count)

    monkeypatch.setattr("sparsity_core.course.rate_at", noted)
    (resumed,) = plan.run(task, plan.points()[1:])
    # The first steps lead to where weights are rewound to; what was saved is not made again.
    assert sorted(set(steps)) == [*range(20), *range(saved["place"]["step"], 300)]
    assert not under_way.exists()
    monkeypatch.undo()
    monkeypatch.setenv("SPARSITY_STORE", str(tmp_path / "elsewhere"))
    *_, whole = plan.run(task, plan.points())
    assert numbers(resumed) == numbers(whole)
    first, second = (
        torch.load(folder / "checkpoints" / f"{whole.point_id}.pt", weights_only=True)["state"]
        for folder in (tmp_path, tmp_path / "elsewhere")
    )
    assert same(first, second)


def test_worker_processes_and_the_store_carry_it(task, tmp_path):
    plan = plan_of(task, rounds=1, seeds=[0, 1], arms=["random"])
    executor = WorkerProcesses(2)
    store = Store(tmp_path / "own")
    job = Job(plan, store)
    try:
        job.run(executor)
    finally:
        executor.close()
    assert job.view.state == "done"
    rows = store.rows(plan)
    # Trainings are saved beside the job's own store, not beside the default one.
    saved = {path.stem for path in (tmp_path / "own" / "checkpoints").iterdir()}
    assert saved
    assert saved <= {row.point_id for row in rows}
    assert not (tmp_path / "checkpoints").exists()
    assert [numbers(row) for row in rows] == [
        numbers(row) | {"device": rows[0].device} for row in plan.run(task, plan.points())
    ]


# Connectivity


def test_the_barrier_by_eye():
    # Ends 0.9 and 0.8, the worst between them 0.75: 0.85 - 0.75.
    assert Line((0.9, 0.75, 0.8)).barrier == pytest.approx(0.1)
    assert not Line((0.9, 0.75, 0.8)).stable
    assert Line((0.9, 0.84, 0.8)).barrier == pytest.approx(0.05)  # at an end
    assert Line((0.9, 0.889, 0.9)).stable
    assert Line((1.0, 3.0, 2.0), higher_is_better=False).barrier == pytest.approx(1.5)


def test_the_line_goes_straight_from_one_to_the_other(task):
    one, other = (fresh_model(task, s).state_dict() for s in (0, 1))
    one["count"] = other["count"] = torch.tensor(3)
    assert same(between(one, other, 0.0), one)
    assert same(between(one, other, 1.0), other)
    quarter = between(one, other, 0.25)
    assert torch.allclose(quarter["fc1.bias"], 0.75 * one["fc1.bias"] + 0.25 * other["fc1.bias"])


def test_other_orders_are_compared_on_the_line(task, trained):
    _, rows = trained
    row = next(r for r in rows if (r.arm, r.rewind, r.round) == ("other-order", 7, 1))
    line = json.loads(row.line)
    assert len(line) == 30
    twin = next(r for r in rows if (r.arm, r.rewind, r.round) == ("ticket", 7, 1))
    assert line[0] == pytest.approx(twin.value, abs=1e-6)
    assert line[-1] == pytest.approx(row.value, abs=1e-6)
    assert row.barrier == pytest.approx((line[0] + line[-1]) / 2 - min(line), abs=2e-6)


def test_with_batch_norm_the_line_is_measured_with_new_statistics_too():
    task = load_task("digits-resnet")
    small = replace(
        task,
        train=task.train.take(100),
        validation=task.validation.take(20),
        test=task.test.take(20),
    )
    training = Training(steps=4, rate=0.05, batch_size=50)
    plan = plan_of(small, training=training, rounds=0, arms=["other-order"])
    ticket, row = plan.run(small, plan.points())
    assert (row.status, ticket.barrier_recalibrated) == ("ok", None)
    assert row.barrier_recalibrated is not None


def test_what_mends_the_mixed_states_does_so_before_the_look():
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    one, other = model.state_dict(), nn.Linear(3, 2).state_dict()
    split = Split(torch.randn(5, 3), torch.tensor([1, 1, 1, 1, 0]))
    seen = []

    def always_the_second(walker):
        assert torch.equal(walker.weight, between(one, other, len(seen) / 3)["weight"])
        seen.append(walker)
        nn.init.zeros_(walker.weight)
        walker.bias.data = torch.tensor([0.0, 1.0])

    line = line_between(
        model, one, other, lambda m: evaluate(m, split), points=4, mend_=always_the_second
    )
    assert line.values == pytest.approx((0.8,) * 4)
    assert model not in seen
    assert torch.equal(model.weight, one["weight"])


def test_far_apart_there_is_a_barrier(task):
    # Two trained networks whose hidden units stand in another order: alike, and far apart.
    model = task.model
    state = model.state_dict()
    turned = {k: v.clone() for k, v in state.items()}
    make = torch.Generator().manual_seed(0)
    for one, next_one, units in (("fc1", "fc2", 300), ("fc2", "fc3", 100)):
        order = torch.randperm(units, generator=make)
        turned[f"{one}.weight"] = turned[f"{one}.weight"][order]
        turned[f"{one}.bias"] = turned[f"{one}.bias"][order]
        turned[f"{next_one}.weight"] = turned[f"{next_one}.weight"][:, order]

    def look(walker):
        return evaluate(walker, task.test)

    assert line_between(model, state, state, look).barrier == 0
    found = line_between(model, state, turned, look, points=5)
    assert found.values[0] == found.values[-1]
    assert not found.stable


# For whoever shows it


def test_overlap_by_eye():
    one = {"a": torch.tensor([True, True, False, False])}
    other = {"a": torch.tensor([True, False, True, True])}
    (found,) = overlap(one, other).values()
    assert (found.shared, found.chance) == (0.5, 0.75)
    with pytest.raises(SparsityError, match="different layers"):
        overlap(one, {})
    with pytest.raises(SparsityError, match="a: the first mask leaves nothing"):
        overlap({"a": torch.zeros(4, dtype=torch.bool)}, other)


def test_what_is_saved_can_be_looked_at(task, monkeypatch):
    plan = plan_of(task, rounds=1)
    dense, ticket = plan.points()
    assert saved_end(plan, ticket) is None
    assert seen_so_far(ticket) is None
    monkeypatch.setattr(checkpoint, "_LOST", 0.0)
    seen = []
    end = checkpoint.delete
    monkeypatch.setattr(
        checkpoint, "delete", lambda name: (seen.append(seen_so_far(ticket)), end(name))
    )
    *_, row = plan.run(task, [dense, ticket])
    assert seen[0] is None  # the dense training had ended, the ticket's had not begun
    assert seen[1].steps == json.loads(row.history)["step"]
    assert seen_so_far(ticket) is None
    found = saved_end(plan, ticket)
    assert numbers(found.row) == numbers(row)
    assert same(found.masks, masks_of(task, plan, ticket))
    checkpoint.free(plan.saved_under(), default_folder())
    assert saved_end(plan, ticket) is None


def test_the_estimate_is_of_the_right_size(task):
    plan = plan_of(task, training=replace(TRAINING, steps=300), rounds=0)
    started = time.perf_counter()
    list(plan.run(task, plan.points()))
    took = time.perf_counter() - started
    expected = seconds_of(task, plan)
    assert took / 8 < expected < took * 8  # the machine has other work
    assert seconds_of(task, plan, trainings=0) == 0
    assert seconds_of(task, plan_of(task, training=replace(TRAINING, steps=2))) > 0
