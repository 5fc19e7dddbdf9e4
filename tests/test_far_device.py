"""Everything that takes a device gives the same on another one, and mixes no tensors of both.

No GPU is needed: see far_device.
"""

import dataclasses
import sys

import pytest
import torch
from torch import nn

from sparsity_core.allocations import ALLOCATIONS
from sparsity_core.dynamic import RULES
from sparsity_core.dynamic.course import MovingCourse
from sparsity_core.probe import Probe
from sparsity_core.prune import prune, refusals
from sparsity_core.recipe import Recipe, Training
from sparsity_core.repairs import REPAIRS
from sparsity_core.rounds import run
from sparsity_core.schedules import Geometric
from sparsity_core.scorers import SCORERS
from sparsity_core.status import rows_of
from sparsity_core.structures import STRUCTURES
from sparsity_core.sweep.engines import ENGINES
from sparsity_core.sweep.plan import plan_sweep
from sparsity_core.sweep.sequential import Question
from sparsity_core.task import load_task
from tests.far_device import FAR, far_device
from tests.test_combinations import allocation_of


class Small(nn.Module):
    """A convolution with a norm, attention, a classifier; no two share a weight."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.relu = nn.ReLU()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        x = self.relu(self.norm(self.conv(x))).flatten(2).transpose(1, 2)
        return self.fc(self.attention(x, x, x, need_weights=False)[0].mean(1))


OF_CHANNELS = (
    *("bn-scale", "geometric-median", "mean-activation", "apoz"),
    *("integrated-gradients", "conductance", "deeplift"),
)


def model_and_batches(device, plain):
    torch.manual_seed(0)
    model = Small().eval()
    if plain:  # DeepLIFT has no rule for attention
        last = nn.Linear(32, 4)
        model = nn.Sequential(model.conv, model.norm, model.relu, nn.Flatten(), last).eval()
    batches = [(torch.randn(n, 4, 4, 4), torch.randint(4, (n,))) for n in (3, 2)]
    return model.to(device), [(x.to(device), y.to(device)) for x, y in batches]


def masks_on(device, scorer, structure, allocation="uniform"):
    probe = Probe(*model_and_batches(device, scorer == "deeplift"))
    made, scored = STRUCTURES.make(structure), SCORERS.make(scorer)
    names = [n for n in probe.layers if n not in refusals(probe, scored, made)]
    sparsity = made.fixed_sparsity or 0.3
    pruning = prune(probe, Recipe(sparsity, scored, made, allocation_of(allocation, names)))
    assert {mask.device.type for mask in pruning.masks.values()} == {device}
    return {name: mask.cpu() for name, mask in pruning.masks.items()}


def assert_same_masks(*choices):
    near = masks_on("cpu", *choices)
    with far_device() as device:
        far = masks_on(device, *choices)
    assert near.keys() == far.keys()
    assert all(torch.equal(near[name], far[name]) for name in near)


def test_the_stand_in_does_not_mix_devices():
    near = torch.ones(3)
    with far_device() as device:
        far = near.to(device)
        assert far.device.type == FAR
        assert (far + far).cpu().tolist() == [2, 2, 2]
        assert torch.zeros_like(far).device.type == FAR
        assert far[torch.tensor([0, 2])].device.type == FAR
        with pytest.raises(RuntimeError, match="same device"):
            far + near
        with pytest.raises(RuntimeError, match="same device"):
            far.masked_fill_(near.bool(), 0)


@pytest.mark.parametrize("scorer", SCORERS.kinds())
def test_scorers(scorer):
    units = "out-channel" if scorer in OF_CHANNELS else "unstructured"
    assert_same_masks(scorer, units)


@pytest.mark.parametrize("structure", STRUCTURES.kinds())
def test_structures(structure):
    assert_same_masks("magnitude", structure)


@pytest.mark.parametrize("allocation", ALLOCATIONS.kinds())
def test_allocations(allocation):
    assert_same_masks("magnitude", "unstructured", allocation)


@pytest.fixture
def small(request, monkeypatch):
    """A small task, and modules that take any device for one that is there."""
    for module in list(sys.modules.values()):
        if module.__name__.startswith("sparsity_core."):
            for name in ("resolve_device", "device_label"):
                if hasattr(module, name):
                    monkeypatch.setattr(module, name, lambda device: device)
    task = load_task(getattr(request, "param", "digits-lenet"))
    few = {"train": task.train.take(64), "validation": task.validation.take(32)}
    return dataclasses.replace(task, **few)


def on_both(measure):
    near = measure("cpu")
    with far_device() as device:
        far = measure(device)
    assert near == far


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_rounds_of_pruning_and_training(small, optimizer):
    training = Training(epochs=1, batch_size=32, optimizer=optimizer, clip=1.0)

    def measure(device):
        recipe = Recipe(0.5, training=training, schedule=Geometric(2))
        rounds = list(run(small, recipe, score_samples=32, device=device))
        return [[round(loss, 4) for loss in one.losses] for one in rounds]

    on_both(measure)


@pytest.mark.parametrize("repair", REPAIRS.kinds())
def test_repairs(small, repair):
    structure = STRUCTURES.make("out-channel" if repair == "least-squares" else "unstructured")

    def measure(device):
        recipe = Recipe(0.5, structure=structure, repair=(REPAIRS.make(repair),))
        *_, last = run(small, recipe, score_samples=32, device=device)
        return [round(float(p.detach().double().sum()), 3) for p in last.model.parameters()]

    on_both(measure)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("small", ["digits-lenet", "digits-mobilenet", "digits-vit"], indirect=True)
def test_sweeps(small, engine, monkeypatch):
    """By the same engine as on the CPU: fused there too, and in bfloat16."""
    for module in ("sparsity_core.sweep.engines", "sparsity_core.sweep.ways"):
        monkeypatch.setattr(f"{module}.check_fast_bf16", lambda _: None)

    def measure(device):
        options = {"engine": engine, "score_samples": 32, "device": device}
        plan = plan_sweep(small, sparsities=[0.5, 0.9], **options)
        found = plan.run(small, plan.points())
        return [(row.layer, row.value, row.status, row.engine) for row in found]

    on_both(measure)


def test_early_answers(small):
    def measure(device):
        options = {"question": Question(0.1), "score_samples": 32, "device": device}
        plan = plan_sweep(small, sparsities=[0.9], **options)
        return [(row.layer, row.value, row.samples) for row in plan.run(small, plan.points())]

    on_both(measure)


@pytest.mark.parametrize("rule", RULES.kinds())
def test_moving_masks(rule):
    made = RULES.make(rule)
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 4))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    task = load_task("digits-lenet")
    data = task.train.take(64)
    data = dataclasses.replace(
        data, inputs=data.inputs.flatten(1)[:, :32], targets=data.targets % 4
    )

    def measure(device):
        fresh = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 4))
        fresh.load_state_dict(state)
        training = Training(steps=12, batch_size=16, rate=0.1)
        budgets = {"0.weight": 128, "2.weight": 16}
        course = MovingCourse(fresh, data, training, made, budgets, seed=0, device=device)
        losses = course.advance_()
        course.refresh_()
        return [round(x, 4) for x in losses], {n: int(m.sum()) for n, m in course.live.items()}

    on_both(measure)


def test_points_on_a_gpu_are_measured_in_float32_and_repeatably(monkeypatch):
    # torch allows TF32 in convolutions unless told otherwise.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)

    def flags():
        cudnn = torch.backends.cudnn
        tf32 = (torch.backends.cuda.matmul.allow_tf32, cudnn.allow_tf32)
        return (*tf32, cudnn.deterministic, cudnn.benchmark)

    @dataclasses.dataclass(frozen=True)
    class Row:
        flags: tuple = ()
        seconds: float = 0.0

    before = flags()
    (row,) = rows_of([0], lambda _: Row(flags()), lambda *_: Row())
    assert row.flags == (False, False, True, False)
    assert flags() == before == (False, True, False, False)
