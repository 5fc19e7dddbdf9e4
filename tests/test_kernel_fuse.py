"""Fused convolutions: the same outputs as the model, in one call where it can be, and why not."""

import copy
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sample_models.mobilenet import MobileNet
from sample_models.resnet import ResNet
from sparsity_core.kernels import KERNELS, fold_batch_norms_, sparsify
from sparsity_core.kernels.choice import DENSE, pack_layer
from sparsity_core.kernels.compiled import side_by_side
from sparsity_core.kernels.fuse import fuse
from sparsity_core.kernels.fused import FusedChain, FusedConvolution
from sparsity_core.kernels.meeting import meet
from sparsity_core.kernels.sites import sites
from sparsity_core.kernels.sparsify import SparseLayer, _placed
from sparsity_core.kernels.timing import Times
from sparsity_core.weights import mask_, prunable


def packed(model, sparsity=0.8, threads=1):
    """The masked model, and the same with every convolution packed."""
    torch.manual_seed(0)
    dense = copy.deepcopy(model).eval().requires_grad_(False)
    masks = {n: torch.rand(layer.shape) >= sparsity for n, layer in prunable(dense).items()}
    mask_(dense, masks)
    convolutions = [s for s in sites(dense, masks) if isinstance(s.module, nn.Conv2d)]
    layers = {
        s.path: SparseLayer(pack_layer("sparse-convolution", s.module, masks[s.name], threads))
        for s in convolutions
    }
    return dense, _placed(dense, layers)


def chains(model):
    return [module for module in model.modules() if isinstance(module, FusedChain)]


def single(model):
    inside = {id(step) for chain in chains(model) for step in chain.steps}
    found = [m for m in model.modules() if isinstance(m, FusedConvolution)]
    return [module for module in found if id(module) not in inside]


def check(dense, fused, x):
    expected = copy.deepcopy(dense).double()(x.double())
    with torch.no_grad():
        first = fused(x)
        again = fused(2 * x)
    near = 1e-5 * float(expected.abs().max())
    torch.testing.assert_close(first.double(), expected, rtol=1e-4, atol=near)
    twice = copy.deepcopy(dense).double()(2 * x.double())
    torch.testing.assert_close(again.double(), twice, rtol=1e-4, atol=2 * near)
    assert first.is_contiguous()
    torch.testing.assert_close(first.double(), expected, rtol=1e-4, atol=near)  # left alone


@pytest.mark.parametrize("size", [8, 11, 20])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_residual_network_is_one_call(size, batch):
    torch.manual_seed(1)
    model = ResNet(3, (5, 16, 18), 2).eval()
    fold_batch_norms_(model, torch.randn(2, 3, size, size))
    dense, sparse = packed(model)
    x = torch.randn(batch, 3, size, size)
    fused, why = fuse(sparse, x)
    assert why == ""
    (chain,) = chains(fused)
    assert len(chain.steps) == 15
    assert not single(fused)
    check(dense, fused, x)
    # Several images lie further apart in the shortcuts' outputs, whose kernels have no margins.
    assert (chain._mine.ready.chain is not None) == (batch == 1)
    check(dense, fused, torch.randn(batch + 1, 3, size + 2, size))  # another size
    check(dense, fused, x.contiguous(memory_format=torch.channels_last))


def test_a_mobilenet_with_depthwise_convolutions_is_one_call():
    model = MobileNet().eval()
    x = torch.randn(2, 1, 8, 8)
    fold_batch_norms_(model, x)
    dense, sparse = packed(model, 0.5)
    fused, _ = fuse(sparse, x)
    assert len(chains(fused)[0].steps) == 9
    check(dense, fused, x)


def test_groups_and_filters_without_weights():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(6, 9, (3, 2), groups=3), nn.ReLU(), nn.Conv2d(9, 40, 3))
    with torch.no_grad():
        model[0].weight[4], model[2].weight[7:20] = 0, 0
        model[2].weight[:, 3:] = 0
    dense, sparse = packed(model, 0.9)
    x = torch.randn(1, 6, 9, 9)
    fused, _ = fuse(sparse, x)
    check(dense, fused, x)


def residual_network(threads):
    """Norms folded, so that all of it is one chain; dense, and fused for some threads."""
    torch.manual_seed(1)
    model = ResNet(3, (5, 16, 18), 2).eval()
    x = torch.randn(2, 3, 11, 11)
    fold_batch_norms_(model, x)
    dense, sparse = packed(model, threads=threads)
    fused, _ = fuse(sparse, x)
    assert len(chains(fused)) == 1
    return dense, fused


@pytest.mark.parametrize("threads", [2, 3, 7])  # more than cores, than channels or vectors too
def test_threads_share_a_chain_to_the_same_bits(threads):
    (dense, alone), (_, together) = residual_network(1), residual_network(threads)
    for shape in [(1, 3, 8, 8), (3, 3, 11, 11)]:
        x = torch.randn(shape)
        check(dense, together, x)
        with torch.no_grad():
            expected = alone(x)
            for _ in range(20):
                assert torch.equal(together(x), expected)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("batch", [2, 5])
def test_large_images_pass_one_after_another(batch, threads, monkeypatch):
    (dense, alone), (_, fused) = residual_network(1), residual_network(threads)
    monkeypatch.setattr("sparsity_core.kernels.fused._LARGE", 0)
    x = torch.randn(batch, 3, 11, 11)
    check(dense, fused, x)
    check(dense, fused, x.contiguous(memory_format=torch.channels_last))
    with torch.no_grad():
        found = fused(x)
        ready = chains(fused)[0]._mine.ready
        assert ready.held[0].taken[0][0] == 1
        assert torch.equal(fused(x), found)
        assert chains(fused)[0]._mine.ready is ready  # made once
        assert torch.equal(found, torch.cat([alone(one[None]) for one in x]))


def test_callers_at_the_same_time_do_not_wait_for_each_other_for_ever():
    _, fused = residual_network(3)
    inputs = [torch.randn(1, 3, 11, 11) for _ in range(4)]
    with torch.no_grad():
        expected = [fused(x) for x in inputs]

        def call(i):
            with torch.no_grad():
                return all(torch.equal(fused(inputs[i]), expected[i]) for _ in range(20))

        with ThreadPoolExecutor(4) as callers:
            assert list(callers.map(call, range(4))) == [True] * 4


@pytest.mark.parametrize("fails", [0, 2])
def test_a_part_that_fails_keeps_nobody_waiting(fails):
    def part(meeting, number, parts):
        if number == fails:
            raise RuntimeError("no memory")
        meet(meeting, parts)
        passed.append(number)

    passed: list[int] = []
    with pytest.raises(RuntimeError, match="no memory"):
        side_by_side(part, 3)
    assert sorted(passed) == sorted({0, 1, 2} - {fails})


class Odd(nn.Module):
    """Sums and ReLUs that may not become part of a convolution, and some that may."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 1)
        self.c, self.d = nn.Conv2d(6, 1, 3, padding=1), nn.Conv2d(6, 6, 5, padding=2)

    def forward(self, x):
        h = self.a(x)
        h = h + F.relu(h)  # read twice: left alone
        y = torch.add(h, self.b(h), alpha=2)  # scaled: left alone
        y = F.relu(self.d(y) + self.c(y))  # one of them stretched: left alone
        return self.b(self.d(y).relu()) + y  # used twice; a sum within


def test_what_does_not_belong_to_a_convolution_is_left_alone():
    torch.manual_seed(0)
    dense, sparse = packed(Odd(), 0.5)
    x = torch.randn(2, 3, 7, 9)
    fused, _ = fuse(sparse, x)
    assert not chains(fused)
    found = single(fused)
    assert [m.relu for m in found] == [False, False, False, False, True, False]
    check(dense, fused, x)


def test_outputs_that_are_views_have_memory_of_their_own():
    dense, sparse = packed(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(2)))
    x = torch.randn(1, 3, 10, 10)
    fused, _ = fuse(sparse, x)
    check(dense, fused, x)
    dense, sparse = packed(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.ReLU()))
    x = torch.randn(1, 3, 4, 4)
    fused, _ = fuse(sparse, x)
    check(dense, fused, x)


def test_nan_passes_a_relu():
    dense, sparse = packed(nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU()), 0.0)
    x = torch.tensor([[[[float("nan"), -1.0], [float("inf"), 2.0]]]])
    fused, _ = fuse(sparse, x)
    torch.testing.assert_close(fused(x), dense(x), equal_nan=True)


def test_a_forward_pass_that_cannot_be_traced_says_so():
    class Chooses(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x):
            return self.conv(x) if x.sum() > 0 else self.conv(-x)

    _, sparse = packed(Chooses())
    fused, why = fuse(sparse, torch.randn(1, 3, 4, 4))
    assert fused is None
    assert "cannot be traced" in why
    assert fuse(nn.Sequential(nn.ReLU()), torch.randn(1, 3)) == (None, "")


@pytest.mark.parametrize(
    ("best", "threads"),
    [("dense", 1), ("layer by layer", 1), ("fused", 1), ("fused, all", 2), ("fused, on", 2)],
)
def test_sparsify_takes_the_quickest_way(best, threads, monkeypatch):
    def times(calls, *_):
        first = max(way for way in calls if way.startswith(best))  # "fused, all sparse" if there
        return {way: Times(*[1.0 if way == first else 9.0] * 3) for way in calls}

    def alone(calls, *_):  # of single layers: the first ones are quicker dense
        seconds = {DENSE: 2.0, "sparse-convolution": 1.0 + 2 * (len(seen) < 2)}
        seen.append(calls)
        return {kind: Times(*[seconds.get(kind, 9.0)] * 3) for kind in calls}

    seen: list[object] = []
    # By name, for the package has a function called sparsify as well.
    monkeypatch.setattr(sys.modules["sparsity_core.kernels.sparsify"], "timed", times)
    monkeypatch.setattr("sparsity_core.kernels.choice.timed", alone)
    torch.manual_seed(0)
    model, x = ResNet(3, (8, 16), 1).eval(), torch.randn(1, 3, 8, 8)
    masks = {n: torch.rand(layer.shape) >= 0.9 for n, layer in prunable(model).items()}
    sparse = sparsify(model, masks, sample=x, fold=True, threads=threads)
    fused = best.startswith("fused")
    assert len(chains(sparse)) == fused
    assert ("fused with the sums and ReLUs" in sparse.note) == fused
    assert ("on one thread: 2 are no quicker" in sparse.note) == (best == "fused, on")
    kernels = {choice.kernel for choice in sparse.layers if "fc" not in choice.name}
    if fused:  # also those that alone were quicker dense
        assert kernels == {"sparse-convolution"}
        wanted = 1 if best == "fused, on" else threads
        assert chains(sparse)[0].steps[0].packed.kernel.threads == wanted
    mask_(model, masks)
    torch.testing.assert_close(sparse(x), model(x).detach(), rtol=1e-3, atol=1e-4)


def test_the_fused_kernel_is_the_packed_one():
    weight, mask = torch.randn(9, 5, 3, 3), torch.rand(9, 5, 3, 3) > 0.7
    one = KERNELS.make("sparse-convolution", padding=(1, 1)).pack(weight, mask)
    x, residual = torch.randn(1, 5, 6, 10), torch.randn(1, 9, 6, 10)
    found = FusedConvolution(one, True)(x, residual)
    torch.testing.assert_close(found, F.relu(one(x) + residual))
