"""The rule of lottery tickets, by eye and against a slow sort; how much two masks share."""

import pytest
import torch

from sample_models.mlp import MLP
from sparsity_core.errors import SparsityError
from sparsity_core.tickets.overlap import overlap
from sparsity_core.tickets.rule import Rule, shuffled
from tests.ticket_plan import _own_files, same

__all__ = ["_own_files"]


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
