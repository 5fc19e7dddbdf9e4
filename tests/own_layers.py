"""Small models of one's own, each with something that the sample models lack."""

import torch
from torch import nn

IMAGES = torch.randn(40, 3, 8, 8, generator=torch.Generator().manual_seed(0))
TOKENS = torch.randint(11, (40, 6), generator=torch.Generator().manual_seed(1))


class Branches(nn.Module):
    """Two branches of other widths, joined, with a residual around the second."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1)
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.mixed = nn.Conv2d(8, 8, 1, groups=2)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        both = torch.cat([self.left(x), self.right(x)], 1).relu()
        return self.head((both + self.mixed(self.deep(both).relu())).mean((2, 3)))


class Tied(nn.Module):
    """A language model whose head is its embedding."""

    def __init__(self):
        super().__init__()
        self.embed, self.mix, self.head = (
            nn.Embedding(11, 8),
            nn.Linear(8, 8),
            nn.Linear(8, 11, bias=False),
        )
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        return self.head(self.mix(self.embed(tokens)).tanh())


def classes(count):
    return torch.arange(40) % count
