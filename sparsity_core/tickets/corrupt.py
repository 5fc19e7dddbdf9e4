"""Data with nothing to learn in it: a mask found on it knows nothing of the true data."""

import torch

from sparsity_core.data import Split

_CHUNK = 1024  # samples shuffled at once: the order of one MNIST image takes 6 kB


def corrupted(split: Split, seed: int) -> Split:
    """The same values and labels, but in each sample values change places, and samples labels.

    The sanity check of Su et al. 2020 (arXiv 2009.11094): random labels and random pixels.
    """
    make = torch.Generator().manual_seed(seed)
    parts = []
    for inputs in split.inputs.flatten(1).split(_CHUNK):
        order = torch.rand(inputs.shape, generator=make).argsort(1)
        parts.append(inputs.gather(1, order.to(inputs.device)))
    labels = torch.randperm(len(split), generator=make).to(split.targets.device)
    return Split(torch.cat(parts).reshape(split.inputs.shape), split.targets[labels], split.name)
