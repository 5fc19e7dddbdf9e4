"""Wanda and SparseGPT beat magnitude on a transformer trained on a small language (two seeds).

The same on real text: `python -m benchmarks.transformer_one_shot`, which also says what outlier
features are for.
"""

import pytest
import torch

from benchmarks.transformer_one_shot import (
    STRUCTURES,
    perplexity,
    pruned_perplexity,
    trained_task,
)

SYMBOLS = 10


def small_language(length, seed):
    """A text in which the two symbols before decide which few may follow."""
    make = torch.Generator().manual_seed(seed)
    liking = 4 * torch.randn(SYMBOLS, SYMBOLS, SYMBOLS, generator=make)
    steps = liking.softmax(-1).cumsum(-1).tolist()
    text = [0, 0]
    for chance in torch.rand(length, generator=make).tolist():
        shares = steps[text[-2]][text[-1]]
        text.append(next((i for i, share in enumerate(shares) if chance < share), SYMBOLS - 1))
    return torch.tensor(text)


@pytest.fixture(scope="module", params=range(2))
def perplexities(request):
    """Of each method on a seed's own language and model."""
    torch.set_num_threads(1)
    text = small_language(60_000, request.param)
    task = trained_task(text, request.param, context=32, width=48, depth=2, epochs=6, rate=5e-3)
    found = {"dense": perplexity(task, task.model)}
    for pattern, structure in STRUCTURES.items():
        for method in ("random", "magnitude", "wanda", "sparsegpt"):
            found[pattern, method] = pruned_perplexity(task, method, structure, request.param)
    return found


@pytest.mark.parametrize("pattern", STRUCTURES)
def test_wanda_and_sparsegpt_beat_magnitude(perplexities, pattern):
    by_method = {m: perplexities[pattern, m] for m in ("sparsegpt", "wanda", "magnitude", "random")}
    assert sorted(by_method, key=by_method.get) == list(by_method)
    assert perplexities["dense"] < by_method["sparsegpt"]


def test_the_model_has_learned_its_language(perplexities):
    assert perplexities["dense"] < 3.5  # chance: 10
