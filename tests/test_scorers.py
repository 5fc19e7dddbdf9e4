"""Each scorer: a case by eye, an oracle, and what all of them promise."""

import copy

import pytest
import torch
import torch.nn.functional as F
import torch.nn.utils.prune as torch_prune
from torch import nn

from sparsity_core.allocations import Threshold
from sparsity_core.errors import NonFiniteError, SparsityError
from sparsity_core.probe import Probe
from sparsity_core.prune import prune
from sparsity_core.recipe import Recipe
from sparsity_core.scorers import (
    OBD,
    SCORERS,
    Fisher,
    Grasp,
    HanThreshold,
    Magnitude,
    Movement,
    Random,
    Snip,
    SynFlow,
    Taylor,
    Wanda,
    WoodFisher,
)
from sparsity_core.selection import count_pruned
from sparsity_core.structures import OutChannel

SIGNED = ("grasp", "obd", "movement")  # a negative score is meant


def score(kind, model, batches, **options):
    return SCORERS.make(kind).score(Probe(model, batches, **options))


def linear(weight, bias=None):
    layer = nn.Linear(len(weight[0]), len(weight), bias=bias is not None)
    layer.weight.data = torch.tensor(weight)
    if bias is not None:
        layer.bias.data = torch.tensor(bias)
    return layer


def test_magnitude_by_eye():
    model = nn.Sequential(linear([[0.1, -0.5], [0.3, 0.0]]))
    assert score("magnitude", model, [])["0.weight"].tolist() == [
        pytest.approx([0.1, 0.5]),
        pytest.approx([0.3, 0.0]),
    ]


def test_taylor_by_eye():
    # loss = (w . x)^2 with w = (2, -1), x = (3, 1): dL/dw = 2 (w . x) x = 10 (3, 1)
    model = nn.Sequential(linear([[2.0, -1.0]]))
    batch = (torch.tensor([[3.0, 1.0]]), torch.zeros(1))
    scores = score("taylor", model, [batch], loss=lambda out, _: out.square().mean())
    assert scores["0.weight"].tolist() == [[60.0, 10.0]]


def test_wanda_by_eye():
    # Columns of x: (3, 4) has norm 5, (0, 2) has norm 2.
    model = nn.Sequential(linear([[1.0, -3.0], [0.5, 0.0]]))
    batch = (torch.tensor([[3.0, 0.0], [4.0, 2.0]]), torch.tensor([0, 1]))
    assert score("wanda", model, [batch])["0.weight"].tolist() == [[5.0, 6.0], [2.5, 0.0]]


def test_snip_against_the_worked_example(vectors):
    example = vectors["snip_tiny"]
    model = nn.Sequential(linear(example["W1"]), nn.ReLU(), linear(example["W2"]))
    batch = (torch.tensor(example["X"]), torch.tensor(example["Y"]))
    probe = Probe(model, [batch])
    assert torch.allclose(probe.gradients["0.weight"], torch.tensor(example["grad_W1"]))
    scores = Snip().score(probe)
    assert torch.allclose(scores["0.weight"], torch.tensor(example["score_W1"]), atol=1e-8)
    assert torch.allclose(scores["2.weight"], torch.tensor(example["score_W2"]), atol=1e-8)
    assert sum(s.sum() for s in scores.values()) == pytest.approx(1)


def test_taylor_of_a_unit_adds_before_it_takes_the_size():
    # Molchanov's group form: 60 and -10 are 50 together, not 70.
    model = nn.Sequential(linear([[2.0, -1.0]]))
    batch = (torch.tensor([[3.0, 1.0]]), torch.zeros(1))
    probe = Probe(model, [batch], loss=lambda out, _: out.square().mean())

    def of_row(scores):
        return scores.mean(1)

    apart, joint = Taylor(), Taylor(joint=True)
    assert apart.pool(apart.score(probe)["0.weight"], of_row).tolist() == [35.0]
    assert joint.pool(joint.score(probe)["0.weight"], of_row).tolist() == [25.0]


def test_joint_taylor_is_the_change_of_the_loss_when_a_filter_goes(small_conv, batches):
    model = small_conv.double()
    data = [(x.double(), y) for x, y in batches]
    inputs, targets = torch.cat([x for x, _ in data]), torch.cat([y for _, y in data])
    scorer = Taylor(joint=True)
    found = scorer.pool(
        scorer.score(Probe(model, data))["conv1.weight"], lambda s: s.flatten(1).sum(1)
    )
    weight, step = model.conv1.weight, 1e-6
    with torch.no_grad():
        dense = F.cross_entropy(model(inputs), targets)
        for i in range(8):
            before = weight[i].clone()
            weight[i] = before * (1 - step)
            change = (F.cross_entropy(model(inputs), targets) - dense).abs() / step
            weight[i] = before
            assert found[i].item() == pytest.approx(change.item(), rel=1e-3, abs=1e-9)


def test_magnitude_of_units_by_either_norm():
    scores = torch.tensor([[3.0, 4.0], [0.0, 6.0]])

    def of_row(x):
        return x.mean(1)

    assert Magnitude().pool(scores, of_row).tolist() == [3.5, 3.0]
    assert Magnitude(norm=2).pool(scores, of_row).tolist() == [
        pytest.approx(5 / 2**0.5),
        pytest.approx(6 / 2**0.5),
    ]
    with pytest.raises(SparsityError, match="norm must be 1 or 2"):
        Magnitude(norm=3)


@pytest.mark.parametrize("norm", [1, 2])
def test_magnitude_of_channels_agrees_with_torch(norm):
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 10, 3)
    recipe = Recipe(0.3, Magnitude(norm=norm), OutChannel())
    mask = prune(Probe(nn.Sequential(copy.deepcopy(layer))), recipe).masks["0.weight"]
    torch_prune.ln_structured(layer, "weight", 0.3, n=norm, dim=0)
    assert torch.equal(mask, layer.weight_mask.bool())


def test_han_threshold_against_the_worked_example(vectors):
    example = vectors["magnitude_2x3"]
    model = nn.Sequential(linear(example["W"]))
    std = example["han_std_threshold"]["std_population"]
    scores = score("han-threshold", model, [])["0.weight"]
    assert torch.allclose(scores, torch.tensor(example["W"]).abs() / std, rtol=1e-6)
    rule = Recipe(0.9, HanThreshold(), allocation=Threshold(0.5))
    mask = prune(Probe(model), rule).masks["0.weight"]
    assert mask.int().tolist() == example["han_std_threshold"]["mask_q0.5_population"]


def test_han_threshold_of_equal_weights():
    model = nn.Sequential(linear([[0.5, 0.5], [0.5, 0.5]]), linear([[0.0, 0.0]]))
    scores = score("han-threshold", model, [])
    assert scores["0.weight"].tolist() == [[0.5, 0.5]] * 2
    assert scores["1.weight"].tolist() == [[0.0, 0.0]]


def test_geometric_median_by_eye():
    # Filters at 0, 3 and 10 on a line: 3 is 3 + 7 away from the others, 0 is 13, 10 is 17.
    model = nn.Sequential(linear([[0.0, 0.0], [3.0, 0.0], [10.0, 0.0]]))
    scores = score("geometric-median", model, [])["0.weight"]
    assert scores.tolist() == [[13.0, 13.0], [10.0, 10.0], [17.0, 17.0]]


def test_geometric_median_written_out_slowly(small_conv):
    scores = score("geometric-median", small_conv, [])["conv2.weight"]
    filters = small_conv.conv2.weight.detach().flatten(1)
    for j, one in enumerate(filters):
        total = sum(float(((one - other) ** 2).sum()) ** 0.5 for other in filters)
        assert scores[j].flatten().tolist() == pytest.approx([total] * filters.shape[1], rel=1e-5)


def test_woodfisher_by_eye():
    # Gradients (1, 0) and (0, 2), each of one of two samples: F = diag(1/2 + 1, 2 + 1) with
    # damping 1, so 1 / [F^-1]_qq is 1.5 and 3; w^2 / 2 times that.
    model = nn.Sequential(linear([[2.0, 4.0]]))
    batch = (torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.zeros(2))
    probe = Probe(model, [batch], loss=lambda out, _: out.mean())
    scores = WoodFisher(block=2, damping=1.0).score(probe)["0.weight"]
    assert scores.tolist() == [[pytest.approx(3.0), pytest.approx(24.0)]]


@pytest.mark.parametrize("block", [1, 7, 16])
def test_woodfisher_against_the_inverse_written_out(block, small_conv, batches):
    model = small_conv.double()
    data = [(x.double(), y) for x, y in batches]
    scores = WoodFisher(block=block, damping=1e-3).score(Probe(model, data))["conv1.weight"]
    weight = model.conv1.weight
    gradients = []
    for x, y in zip(*(torch.cat(part) for part in zip(*data, strict=True)), strict=True):
        loss = F.cross_entropy(model(x[None]), y[None])
        gradients.append(torch.autograd.grad(loss, weight)[0].flatten())
    fisher = torch.stack(gradients).T @ torch.stack(gradients) / len(gradients)
    for start in range(0, weight.numel(), block):
        part = slice(start, min(start + block, weight.numel()))
        size = part.stop - part.start
        inverse = torch.linalg.inv(fisher[part, part] + 1e-3 * torch.eye(size))
        w = weight.detach().flatten()[part]
        expected = w.square() / (2 * inverse.diagonal())
        assert torch.allclose(scores.flatten()[part], expected, rtol=1e-4)


def test_woodfisher_of_single_weights_is_the_diagonal_fisher(small_conv, batches):
    probe = Probe(small_conv, batches)
    diagonal = Fisher().score(probe)["fc.weight"]
    found = WoodFisher(block=1, damping=1e-9).score(probe)["fc.weight"]
    assert torch.allclose(found, diagonal, rtol=1e-3, atol=1e-9)


def test_movement_against_the_worked_example(vectors):
    example = vectors["movement"]
    model = nn.Sequential(linear([example["w"]]))
    slope = torch.tensor(example["dL_dWmasked"])
    batch = (torch.eye(3), torch.zeros(3))  # the outputs are the weights themselves
    probe = Probe(model, [batch], loss=lambda out, _: (out[:, 0] * slope).sum())
    found = Movement(steps=1, rate=example["lr"]).score(probe)["0.weight"]
    assert found[0].tolist() == pytest.approx(example["score_delta"])


def test_movement_written_out_step_by_step(small_conv, batches):
    found = Movement(steps=5, rate=0.1, sparsity=0.6).score(Probe(small_conv, batches))
    model = copy.deepcopy(small_conv)
    names = list(found)
    trained = {n: dict(model.named_parameters())[n].detach().clone() for n in names}
    scores = {n: torch.zeros_like(w) for n, w in trained.items()}
    for step in range(5):
        sparsity = 0.6 * (1 - (1 - step / 5) ** 3)
        masks = {}
        for name, s in scores.items():
            order = s.flatten().argsort(descending=True, stable=True)
            masks[name] = torch.zeros(s.numel())
            masks[name][order[: s.numel() - count_pruned(s.numel(), sparsity)]] = 1
            masks[name] = masks[name].reshape(s.shape)
        with torch.no_grad():
            for name in names:
                dict(model.named_parameters())[name].copy_(trained[name] * masks[name])
        inputs, targets = batches[step % 2]
        model.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        for name in names:
            gradient = dict(model.named_parameters())[name].grad
            scores[name] -= 0.1 * gradient * trained[name]
            trained[name] -= 0.1 * gradient * masks[name]
    for name in names:
        assert torch.allclose(found[name], scores[name], atol=1e-7)


def test_movement_leaves_dead_weights_dead(small_conv, batches):
    dead = {"fc.weight": torch.rand(5, 72, generator=torch.Generator().manual_seed(0)) < 0.5}
    scores = Movement(steps=3).score(Probe(small_conv, batches, masks=dead))["fc.weight"]
    assert (scores[~dead["fc.weight"]] == 0).all()
    assert (scores[dead["fc.weight"]] != 0).any()


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("movement", {"steps": 0}, "steps must be 1"),
        ("movement", {"rate": 0.0}, "rate must be more"),
        ("movement", {"sparsity": 2}, "sparsity 2"),
        ("woodfisher", {"block": 0}, "block must be 1"),
        ("woodfisher", {"damping": 0.0}, "damping must be more"),
    ],
)
def test_impossible_options(kind, options, message):
    with pytest.raises(SparsityError, match=message):
        SCORERS.make(kind, **options)


def test_gradient_by_eye():
    model = nn.Sequential(linear([[2.0, -1.0]]))
    batch = (torch.tensor([[3.0, 1.0]]), torch.zeros(1))
    scores = score("gradient", model, [batch], loss=lambda out, _: out.square().mean())
    assert scores["0.weight"].tolist() == [[30.0, 10.0]]


def test_fisher_by_eye():
    # Losses w x: the gradients of the samples are 3 and 1, mean square 5; w^2 / 2 * 5 = 10.
    model = nn.Sequential(linear([[2.0]]))
    batch = (torch.tensor([[3.0], [1.0]]), torch.zeros(2))
    scores = score("fisher", model, [batch], loss=lambda out, _: out.mean())
    assert scores["0.weight"].tolist() == [[10.0]]


def test_fisher_against_single_samples(small_conv, batches):
    scores = Fisher().score(Probe(small_conv, batches))["conv2.weight"]
    weight = small_conv.conv2.weight
    squares = torch.zeros_like(weight)
    for x, y in zip(*(torch.cat(part) for part in zip(*batches, strict=True)), strict=True):
        loss = F.cross_entropy(small_conv(x[None]), y[None])
        squares += torch.autograd.grad(loss, weight)[0].square() / 10
    assert torch.allclose(scores, weight.detach().square() * squares / 2, rtol=1e-4, atol=1e-10)


def test_hessian_products_against_the_whole_hessian(vectors):
    example = vectors["snip_tiny"]
    model = nn.Sequential(linear(example["W1"]), nn.Tanh(), linear(example["W2"])).double()
    x, y = torch.tensor(example["X"]).double(), torch.tensor(example["Y"])
    probe = Probe(model, [(x[:1], y[:1]), (x[1:], y[1:])])
    first, last = (w.clone() for w in probe.weights.values())

    def loss(flat):
        w1, w2 = flat[:6].reshape(3, 2), flat[6:].reshape(2, 3)
        return F.cross_entropy(torch.tanh(x @ w1.T) @ w2.T, y)

    flat = torch.cat([first.reshape(-1), last.reshape(-1)])
    hessian = torch.autograd.functional.hessian(loss, flat)
    make = torch.Generator().manual_seed(0)
    vector = {n: torch.randn(w.shape, generator=make).double() for n, w in probe.weights.items()}
    expected = hessian @ torch.cat([v.reshape(-1) for v in vector.values()])
    found = torch.cat([p.reshape(-1) for p in probe.hessian_times(vector).values()])
    assert torch.allclose(found, expected, atol=1e-12)
    many = OBD(draws=4000).score(probe)["0.weight"]
    exact = first.square() / 2 * hessian.diagonal()[:6].reshape(3, 2)
    assert torch.allclose(many, exact, atol=0.02 * exact.abs().max().item() + 1e-4)


def test_obd_by_eye():
    # loss = sum of a w^2 / 2 has the diagonal Hessian a, so one draw is exact: w^2 a / 2.
    model = nn.Sequential(linear([[1.0, 2.0], [3.0, 4.0]]))
    a = torch.tensor([1.0, 10.0])
    batch = (torch.eye(2), torch.zeros(2))
    found = SCORERS.make("obd", draws=1).score(
        Probe(model, [batch], loss=lambda out, _: (a[:, None] * out.square()).sum() / 2)
    )
    assert found["0.weight"].tolist() == [[0.5, 20.0], [4.5, 80.0]]


def test_grasp_against_the_worked_example(vectors):
    example, expected = vectors["snip_tiny"], vectors["grasp_tiny_mlp"]
    model = nn.Sequential(linear(example["W1"]), nn.ReLU(), linear(example["W2"]))
    batch = (torch.tensor(example["X"]), torch.tensor(example["Y"]))
    scores = Grasp(temperature=expected["temperature"]).score(Probe(model, [batch]))
    # The example lists -w * (H g), of which the largest go; here the highest stay.
    assert torch.allclose(-scores["0.weight"], torch.tensor(expected["score_W1"]), atol=1e-6)
    assert torch.allclose(-scores["2.weight"], torch.tensor(expected["score_W2"]), atol=1e-6)


def test_grasp_foretells_the_change_of_the_gradients_norm(small_conv, batches):
    # First order: removing w changes |g|^2 by -2 w (H g).
    model = small_conv.double()
    data = [(x.double(), y) for x, y in batches]
    scores = Grasp(temperature=1.0).score(Probe(model, data))["fc.weight"]

    def norm():
        return sum(g.square().sum() for g in Probe(model, data).gradients.values()).item()

    dense, step = norm(), 1e-5
    for index in [(0, 3), (2, 40), (4, 71)]:
        before = model.fc.weight.data[index].item()
        model.fc.weight.data[index] = before * (1 - step)
        assert (norm() - dense) / step == pytest.approx(-2 * scores[index].item(), rel=1e-3)
        model.fc.weight.data[index] = before


def test_synflow_against_the_worked_example(vectors):
    example = vectors["synflow_2layer"]
    model = nn.Sequential(linear(example["W1"]), linear(example["W2"]))
    scores = SynFlow().score(Probe(model, [(torch.randn(3, 2), torch.zeros(3))]))
    assert scores["0.weight"].tolist() == example["score_W1"]
    assert scores["1.weight"].tolist() == example["score_W2"]


def test_synflow_is_conserved_from_layer_to_layer(batches):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(128, 20, bias=False),
        nn.ReLU(), nn.Linear(20, 5, bias=False),
    )  # fmt: skip
    scores = SynFlow().score(Probe(model, batches))
    totals = [score.sum().item() for score in scores.values()]
    assert totals == pytest.approx([totals[0]] * 3, rel=1e-12)
    into, out_of = scores["3.weight"].sum(1), scores["5.weight"].sum(0)
    assert torch.allclose(into, out_of, rtol=1e-12)


def test_taylor_is_the_change_of_the_loss_when_a_weight_goes(small_conv, batches):
    # Oracle without autograd: the loss at w and at w (1 - h), for every weight of a layer.
    model = small_conv.double()
    data = [(x.double(), y) for x, y in batches]
    inputs, targets = torch.cat([x for x, _ in data]), torch.cat([y for _, y in data])
    scores = score("taylor", model, data)["conv2.weight"]
    weight = model.conv2.weight
    step = 1e-6
    with torch.no_grad():
        dense = F.cross_entropy(model(inputs), targets)
        for index in [(0, 0, 0, 0), (3, 2, 1, 1), (7, 3, 2, 0)]:
            before = weight[index].item()
            weight[index] = before * (1 - step)
            change = (F.cross_entropy(model(inputs), targets) - dense).abs() / step
            weight[index] = before
            assert scores[index].item() == pytest.approx(change.item(), rel=1e-3, abs=1e-9)


def test_wanda_norms_are_those_of_the_unfolded_input(small_conv, batches):
    inputs = torch.cat([x for x, _ in batches])
    energy = Probe(small_conv, batches).input_energy
    patches = F.unfold(inputs.square(), 3, padding=1).sum((0, 2)).reshape(1, 3, 3, 3)
    assert torch.allclose(energy["conv1.weight"], patches.expand(8, 3, 3, 3), rtol=1e-5)
    hidden = small_conv.relu(small_conv.conv1(inputs)).square().detach()
    patches = F.unfold(hidden, 3, padding=1, stride=2).sum((0, 2)).reshape(2, 1, 4, 3, 3)
    grouped = patches.expand(2, 4, 4, 3, 3).reshape(8, 4, 3, 3)
    assert torch.allclose(energy["conv2.weight"], grouped, rtol=1e-5)


def test_attention_projections_are_seen():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            return self.attention(x, x[:, :2] * 2, x[:, :2] * 2)[0].mean(1)

    torch.manual_seed(0)
    x = torch.randn(3, 4, 8)
    energy = Probe(Attention(), [(x, torch.zeros(3).long())]).input_energy
    query = x.square().sum((0, 1))
    key = (2 * x[:, :2]).square().sum((0, 1))
    name = "attention.in_proj_weight"
    assert torch.allclose(energy[name][:8], query.expand(8, 8), rtol=1e-5)
    assert torch.allclose(energy[name][8:], key.expand(16, 8), rtol=1e-5)
    assert (energy["attention.out_proj.weight"] > 0).all()


def test_gradients_do_not_depend_on_how_samples_are_batched(small_conv, batches):
    one = [(torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches]))]
    apart, together = Probe(small_conv, batches), Probe(small_conv, one)
    for name, gradient in together.gradients.items():
        assert torch.allclose(apart.gradients[name], gradient, atol=1e-7)


def test_gradients_reach_pruned_weights(small_conv, batches):
    masks = {"fc.weight": torch.zeros(5, 72, dtype=torch.bool)}
    probe = Probe(small_conv, batches, masks=masks)
    assert (probe.weights["fc.weight"] == 0).all()
    assert (probe.gradients["fc.weight"] != 0).any()


def test_random_depends_on_seed_and_name_only(small_conv):
    first = Random().score(Probe(small_conv, seed=3))
    again = Random().score(Probe(nn.ModuleDict({"fc": small_conv.fc}), seed=3))
    other = Random().score(Probe(small_conv, seed=4))
    assert torch.equal(first["fc.weight"], again["fc.weight"])
    assert not torch.equal(first["fc.weight"], other["fc.weight"])


@pytest.mark.parametrize("kind", SCORERS.kinds())
def test_scores_have_the_shape_of_weights_and_repeat(kind, small_conv, batches):
    before = copy.deepcopy(small_conv.state_dict())
    first = score(kind, small_conv, batches)
    second = score(kind, copy.deepcopy(small_conv), batches)
    for name, weight in Probe(small_conv).weights.items():
        assert first[name].shape == weight.shape
        assert torch.isfinite(first[name]).all()
        if kind not in SIGNED:
            assert (first[name] >= 0).all()
        assert torch.equal(first[name], second[name])
    assert all(torch.equal(before[k], v) for k, v in small_conv.state_dict().items())


@pytest.mark.parametrize("kind", SCORERS.kinds())
def test_a_zero_weight_scores_lowest(kind, small_conv, batches):
    if kind in ("random", "gradient", *SIGNED) or SCORERS.make(kind).ranks == "outputs":
        pytest.skip("this score does not promise it: see its definition")
    small_conv.fc.weight.data[0, :5] = 0
    scores = score(kind, small_conv, batches)["fc.weight"]
    assert (scores[0, :5] == 0).all()


@pytest.mark.parametrize("kind", SCORERS.kinds())
def test_a_scorer_without_its_data_says_so(kind, small_conv):
    scorer = SCORERS.make(kind)
    if not scorer.needs_data:
        assert scorer.score(Probe(small_conv))
        return
    with pytest.raises(SparsityError, match="no batches"):
        scorer.score(Probe(small_conv))


def test_nan_weights_are_named(small_conv, batches):
    small_conv.conv1.weight.data[0, 0, 0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match=r"conv1\.weight: .* NaN or infinite"):
        Taylor().score(Probe(small_conv, batches))


def test_scoring_is_in_evaluation_mode(batches):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.9), nn.Flatten(), nn.Linear(64, 5)
    ).train()
    running = model[1].running_mean.clone()
    assert torch.equal(
        Taylor().score(Probe(model, batches))["0.weight"],
        Taylor().score(Probe(model, batches))["0.weight"],
    )
    assert torch.equal(model[1].running_mean, running)
    assert model.training


def test_equal_scorers_are_equal():
    assert Magnitude() == Magnitude()
    assert len({Wanda(), Wanda(), Taylor()}) == 2


@pytest.mark.parametrize("kind", SCORERS.kinds())
def test_layers_scored_one_after_another_have_the_same_scores(kind, small_conv, batches):
    if kind in ("obd", "snip", "grasp", "movement"):
        pytest.skip("what it measures involves all layers together: see its definition")
    probe = Probe(small_conv, batches)
    together = SCORERS.make(kind).score(probe)
    alone = Probe(small_conv, batches, own_copy=False)
    for name in probe.layers:
        scores = SCORERS.make(kind).score(alone.only([name]))
        assert list(scores) == [name]
        assert torch.allclose(scores[name], together[name], rtol=1e-5, atol=1e-9)


def test_a_probe_without_its_own_copy_leaves_the_model_alone(small_conv, batches):
    before = copy.deepcopy(small_conv.state_dict())
    for kind in SCORERS:
        SCORERS.make(kind).score(Probe(small_conv, batches, own_copy=False))
    assert all(torch.equal(before[k], v) for k, v in small_conv.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in small_conv.parameters())
    with pytest.raises(SparsityError, match="evaluation mode"):
        Probe(small_conv.train(), own_copy=False)
