"""Lottery tickets: each arm what it promises, the whole against a plain loop."""

import json
from dataclasses import asdict, replace

import pytest
import torch
import torch.nn.functional as F

from sparsity_core.plans import plan_from_dict, row_from_dict
from sparsity_core.setting import draw_batches
from sparsity_core.store import Store
from sparsity_core.tickets.arm import ARMS
from sparsity_core.tickets.fresh import fresh_model
from sparsity_core.tickets.trial import end_of, masks_of, start_of
from sparsity_core.weights import prunable
from tests.ticket_plan import _own_files, numbers, plan_of, same, task

__all__ = ["_own_files", "task"]


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


def test_other_orders_are_compared_on_the_line(task, trained):
    _, rows = trained
    row = next(r for r in rows if (r.arm, r.rewind, r.round) == ("other-order", 7, 1))
    line = json.loads(row.line)
    assert len(line) == 30
    twin = next(r for r in rows if (r.arm, r.rewind, r.round) == ("ticket", 7, 1))
    assert line[0] == pytest.approx(twin.value, abs=1e-6)
    assert line[-1] == pytest.approx(row.value, abs=1e-6)
    assert row.barrier == pytest.approx((line[0] + line[-1]) / 2 - min(line), abs=2e-6)
