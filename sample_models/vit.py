"""A vision transformer on patches (Dosovitskiy et al. 2020), attention written out by hand."""

import math

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head self-attention; one linear layer makes queries, keys and values."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.softmax = nn.Softmax(dim=-1)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, width) to the same; T tokens look at each other."""
        qkv = self.qkv(x).unflatten(2, (3, self.heads, -1))  # (N, T, 3, heads, d)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (N, heads, T, d)
        weights = self.softmax(q @ k.transpose(2, 3) / math.sqrt(q.shape[3]))  # (N, heads, T, T)
        mixed = (weights @ v).transpose(1, 2).flatten(2)  # (N, T, width)
        return self.out(mixed)


class Layer(nn.Module):
    """Attention across tokens, then two linear layers in each token, each added to its input."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 2 * width)
        self.gelu = nn.GELU()
        self.fc2 = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, width) to the same."""
        x = x + self.attention(self.norm1(x))
        return x + self.fc2(self.gelu(self.fc1(self.norm2(x))))


class ViT(nn.Module):
    """A transformer on 2x2 patches of 8x8 digits.

    The last layer sees all 16 tokens side by side: with so few images, it learns better where
    strokes are than a mean over tokens does.
    """

    def __init__(self, width: int = 32, heads: int = 4, depth: int = 2, classes: int = 10):
        super().__init__()
        self.unfold = nn.Unfold(kernel_size=2, stride=2)
        self.embed = nn.Linear(4, width)
        self.position = nn.Parameter(0.02 * torch.randn(16, width))
        self.layers = nn.Sequential(*(Layer(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.fc = nn.Linear(16 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 1, 8, 8) to logits (N, classes)."""
        patches = self.unfold(x).transpose(1, 2)  # (N, 16, 4)
        x = self.embed(patches) + self.position  # (N, 16, width)
        x = self.norm(self.layers(x))  # (N, 16, width)
        return self.fc(x.flatten(1))  # (N, classes)
