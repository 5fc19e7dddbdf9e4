"""Sweeps: the numbers against a slow loop written here, and every point with a status."""

import copy
import dataclasses
import itertools
import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sparsity_core.data import Split
from sparsity_core.errors import SparsityError
from sparsity_core.plans import plan_from_dict, row_from_dict
from sparsity_core.scorers import SCORERS
from sparsity_core.sweep.engines import ENGINES
from sparsity_core.sweep.plan import plan_sweep
from sparsity_core.task import Task, load_task


def rows_of(task, **options):
    plan = plan_sweep(task, **options)
    return {row.point_id: row for row in plan.run(task, plan.points())}, plan


def tiny_task(model=None, width=6, classes=3, samples=40):
    make = torch.Generator().manual_seed(0)
    inputs = torch.randn(samples, width, generator=make)
    targets = torch.randint(classes, (samples,), generator=make)
    if model is None:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(width, 8), nn.ReLU(), nn.Linear(8, classes))
    split = Split(inputs, targets)
    return Task("tiny", model.eval(), split, split, split)


def slow_mask(weight, scores, structure, sparsity):
    """Masks by plain sorting in Python, sharing nothing with the library."""
    flat_scores = scores.tolist()
    mask = torch.ones_like(weight, dtype=torch.bool)
    if structure == "unstructured":
        flat = scores.reshape(-1).tolist()
        ranked = sorted(range(len(flat)), key=lambda i: (flat[i], -i))
        for i in ranked[: round(sparsity * len(flat))]:
            mask.view(-1)[i] = False
    elif structure == "out-channel":
        means = [torch.tensor(row).mean().item() for row in flat_scores]
        ranked = sorted(range(len(means)), key=lambda i: (means[i], -i))
        for i in ranked[: round(sparsity * len(means))]:
            mask[i] = False
    else:
        assert structure == "2:4"
        channels_last = scores.movedim(1, -1)
        view = mask.movedim(1, -1)
        for index in itertools.product(*map(range, channels_last.shape[:-1])):
            row = channels_last[index].tolist()
            for start in range(0, len(row), 4):
                ranked = sorted(range(start, start + 4), key=lambda i: (row[i], -i))
                for i in ranked[:2]:
                    view[(*index, i)] = False
    return mask


@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "verified"])
def test_rows_agree_with_a_slow_loop(engine):
    task = load_task("digits-lenet")
    found, plan = rows_of(
        task,
        scorers=["magnitude", "taylor"],
        structures=["unstructured", "out-channel", "2:4"],
        sparsities=[0.5, 0.8, 0.9],
        score_samples=len(task.train),
        engine=engine,
    )
    inputs, targets = task.validation.inputs, task.validation.targets
    model = copy.deepcopy(task.model)
    F.cross_entropy(model(task.train.inputs), task.train.targets).backward()
    statuses = set()
    for point in plan.points():
        row = found[point.id]
        statuses.add(row.status)
        weight = dict(model.named_parameters())[point.layer]
        scores = weight.detach().abs()
        if row.scorer == "taylor":
            scores = (weight * weight.grad).detach().abs()
        if row.structure == "2:4" and (weight.shape[1] % 4 or point.sparsity != 0.5):
            assert row.status == "skipped"
            assert row.message
            assert row.value is row.drop is None
            continue
        if row.structure == "out-channel" and round(point.sparsity * len(weight)) == len(weight):
            continue  # rounding would empty the layer: the library keeps one, the loop none
        mask = slow_mask(weight, scores, row.structure, point.sparsity)
        pruned = copy.deepcopy(model)
        with torch.no_grad():
            dict(pruned.named_parameters())[point.layer].mul_(mask)
            if row.structure == "out-channel":
                bias = dict(pruned.named_parameters())[point.layer.replace("weight", "bias")]
                bias.mul_(mask.flatten(1).any(1))
            correct = (pruned(inputs).argmax(1) == targets).sum().item()
            dense = (model(inputs).argmax(1) == targets).sum().item()
        assert row.status == "ok"
        assert row.samples == len(targets)
        assert round(row.value * len(targets)) == correct, (point, row.message)
        assert round(row.dense_value * len(targets)) == dense
        assert row.drop == pytest.approx((dense - correct) / len(targets))
        assert row.drop_low <= row.drop <= row.drop_high
        assert row.achieved_sparsity == pytest.approx(1 - mask.float().mean().item(), abs=1e-6)
        assert row.removed == int((~mask).sum())
    assert statuses == {"ok", "skipped"}


def test_nothing_is_left_behind_on_the_model():
    task = tiny_task()
    before = copy.deepcopy(task.model.state_dict())
    rows_of(task, sparsities=[0.0, 0.5, 1.0], structures=["unstructured", "out-channel"])
    assert all(torch.equal(before[k], v) for k, v in task.model.state_dict().items())


def test_the_order_of_points_does_not_matter():
    task = tiny_task()
    plan = plan_sweep(task, scorers=["magnitude", "random", "taylor"], seeds=[0, 1])
    forward = {row.point_id: row for row in plan.run(task, plan.points())}
    for row in plan.run(task, plan.points()[::-1]):
        assert dataclasses.replace(row, seconds=0) == dataclasses.replace(
            forward[row.point_id], seconds=0
        )


def test_sparsity_zero_and_one():
    found, plan = rows_of(tiny_task(), sparsities=[0, 1])
    for point in plan.points():
        row = found[point.id]
        if point.sparsity == 0:
            assert (row.status, row.drop, row.removed) == ("ok", 0, 0)
            assert row.no_op
        else:
            assert (row.status, row.achieved_sparsity) == ("collapsed", 1.0)


def test_a_mask_that_changes_nothing_is_a_no_op():
    task = tiny_task()
    task.model[0].weight.data[:6] = 0
    found, _ = rows_of(task, layers=["0"], sparsities=[0.5])
    (row,) = found.values()
    assert row.no_op
    assert row.achieved_sparsity == 0.75  # as the layer is, not as it was asked


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_weights_are_a_status(value):
    task = tiny_task()
    task.model[2].weight.data[0, 0] = value
    found, plan = rows_of(task, scorers=["magnitude"], sparsities=[0.5])
    for row in found.values():
        assert row.status == "nan"
        assert "NaN or infinite" in row.message
        assert row.value is None
    assert len(found) == len(plan.points())


def test_labels_out_of_range_are_a_failed_row():
    task = tiny_task()
    task.validation.targets[3] = 99
    found, _ = rows_of(task, layers=["first"], sparsities=[0.5])
    (row,) = found.values()
    assert row.status == "failed"
    assert "99" in row.message


def test_one_filter_and_never_called_layers_are_skipped_rows():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.narrow = nn.Linear(6, 1)
            self.head = nn.Linear(1, 3)
            self.spare = nn.Linear(6, 6)

        def forward(self, x):
            return self.head(self.narrow(x))

    found, _ = rows_of(tiny_task(Odd()), structures=["out-channel"], sparsities=[0.5])
    by_layer = {row.layer: row for row in found.values()}
    assert by_layer["narrow.weight"].status == "skipped"
    assert "1 output" in by_layer["narrow.weight"].message
    assert "never used" in by_layer["spare.weight"].message
    assert by_layer["head.weight"].status == "ok"


def test_tied_weights_are_swept_once_and_say_so():
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.Linear(6, 3))
    model[2].weight = model[0].weight
    found, _ = rows_of(tiny_task(model), sparsities=[0.5])
    assert [row.layer for row in found.values()] == ["0.weight", "3.weight"]
    assert "shared with 2.weight" in next(iter(found.values())).message


def test_a_batch_of_one():
    found, _ = rows_of(tiny_task(), samples=1, score_samples=1, scorers=["taylor", "wanda"])
    assert {row.status for row in found.values()} == {"ok"}
    assert {row.samples for row in found.values()} == {1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsities": [-0.1]}, "0 to 1"),
        ({"sparsities": [90]}, r"write 0\.9"),
        ({"sparsities": [float("nan")]}, "not a number"),
        ({"sparsities": []}, "no sparsities chosen"),
        ({"layers": []}, "no layers chosen"),
        ({"scorers": []}, "no scorers chosen"),
        ({"structures": []}, "no structures chosen"),
        ({"seeds": []}, "no seeds chosen"),
        ({"layers": ["0.wieght"]}, r"did you mean '0\.weight'"),
        ({"scorers": ["taylr"]}, "did you mean 'taylor'"),
        ({"structures": ["outchannel"]}, "did you mean 'out-channel'"),
        ({"split": "validaton"}, "validation"),
        ({"samples": 0}, "samples must be 1 or more"),
        ({"samples": 10_000}, "has 40 samples"),
        ({"device": "gpu"}, "choose one of auto, cpu, cuda"),
        ({"engine": "faster"}, "unknown engine"),
    ],
)
def test_bad_requests_name_the_remedy(options, message):
    with pytest.raises(SparsityError, match=message):
        plan_sweep(tiny_task(), **options)


def test_ids_name_everything_that_decides_the_result():
    task = tiny_task()
    base = {"layers": ["0"], "sparsities": [0.5]}
    plans = [
        plan_sweep(task, **base),
        plan_sweep(task, **base | {"layers": ["2"]}),
        plan_sweep(task, **base | {"sparsities": [0.6]}),
        plan_sweep(task, **base, scorers=["taylor"]),
        plan_sweep(task, **base, structures=["out-channel"]),
        plan_sweep(task, **base, seeds=[1]),
        plan_sweep(task, **base, samples=20),
        plan_sweep(task, **base, split="test"),
        plan_sweep(task, **base, score_samples=10),
    ]
    other_weights = tiny_task()
    other_weights.model[0].weight.data[0, 0] += 1
    other_data = tiny_task()
    other_data.validation.inputs[0, 0] += 1
    plans += [plan_sweep(other_weights, **base), plan_sweep(other_data, **base)]
    assert len({plan.points()[0].id for plan in plans}) == len(plans)
    assert plan_sweep(tiny_task(), **base).digest == plans[0].digest


def test_plans_and_rows_are_plain_data():
    task = tiny_task()
    plan = plan_sweep(task, scorers=["magnitude", "random"], structures=["2x2", "1:2"])
    again = plan_from_dict(json.loads(json.dumps(plan.to_dict())))
    assert again == plan
    assert again.digest == plan.digest
    assert again.points() == plan.points()
    row = next(plan.run(task, plan.points()))
    assert row_from_dict("sweep", json.loads(json.dumps(dataclasses.asdict(row)))) == row


def test_seeds_repeat_only_what_depends_on_them():
    plan = plan_sweep(
        tiny_task(), scorers=["magnitude", "random", "taylor"], sparsities=[0.5], seeds=[4, 5]
    )
    found = {(SCORERS.label(p.scorer), p.seed) for p in plan.points()}
    assert found == {("magnitude", 4)} | {(s, n) for s in ("random", "taylor") for n in (4, 5)}


def test_groups_hold_every_point_once():
    plan = plan_sweep(tiny_task(), scorers=["magnitude", "random"], seeds=[0, 1])
    groups = plan.groups(plan.points())
    assert [p for group in groups for p in group] == plan.points()
    assert all(len({(p.layer, p.scorer, p.seed) for p in group}) == 1 for group in groups)


def test_a_changed_model_is_not_measured_under_the_old_plan():
    plan = plan_sweep(tiny_task())
    changed = tiny_task()
    changed.model[0].weight.data[0, 0] += 1
    with pytest.raises(SparsityError, match="model digest has changed"):
        plan.check(changed)
    plan.check(tiny_task())
