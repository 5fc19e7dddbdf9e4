"""A transformer over image patches (Dosovitskiy et al. 2021), attention written out."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Self-attention: queries, keys and values by one projection, heads side by side."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, width) to (N, T, width)."""
        n, t, width = x.shape
        qkv = self.qkv(x).reshape(n, t, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # three of (N, heads, T, width / heads)
        x = F.scaled_dot_product_attention(q, k, v)  # (N, heads, T, width / heads)
        return self.out(x.transpose(1, 2).reshape(n, t, width))


class Block(nn.Module):
    """Attention, then two linear layers, each beside a shortcut and behind a layer norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 2 * width)
        self.gelu = nn.GELU()
        self.fc2 = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, width) to (N, T, width)."""
        x = x + self.attention(self.norm1(x))
        return x + self.fc2(self.gelu(self.fc1(self.norm2(x))))


class ViT(nn.Module):
    """Patches of `patch` x `patch` pixels, `depth` blocks, the mean over patches classified."""

    def __init__(
        self,
        size: int = 8,
        patch: int = 2,
        width: int = 48,
        depth: int = 3,
        heads: int = 4,
        classes: int = 10,
    ) -> None:
        super().__init__()
        self.patches = nn.Unfold(patch, stride=patch)
        self.embed = nn.Linear(patch * patch, width)
        self.position = nn.Parameter(torch.randn(1, (size // patch) ** 2, width) * 0.02)
        self.blocks = nn.Sequential(*[Block(width, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 1, size, size) to logits (N, classes)."""
        x = self.patches(x).transpose(1, 2)  # (N, T, patch * patch)
        x = self.embed(x) + self.position  # (N, T, width)
        x = self.norm(self.blocks(x))  # (N, T, width)
        return self.head(x.mean(1))  # (N, classes)
