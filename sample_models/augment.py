"""Random shifts and mirror images, drawn while training; the data stays as it is."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Augmented(nn.Module):
    """A model that sees training images shifted by up to `shift` pixels, and half of them mirrored.

    In eval mode it is the model itself. Draws from torch's global random state.
    """

    def __init__(self, model: nn.Module, shift: int, mirror: bool):
        super().__init__()
        self.model = model
        self.shift = shift
        self.mirror = mirror

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) to what the model gives."""
        return self.model(self._varied(x) if self.training else x)

    def _varied(self, x: Tensor) -> Tensor:
        count, _, height, width = x.shape
        padded = F.pad(x, [self.shift] * 4)  # (N, C, H + 2 shift, W + 2 shift)
        top, left = torch.randint(2 * self.shift + 1, (2, count, 1))
        rows = top + torch.arange(height)  # (N, H)
        columns = left + torch.arange(width)  # (N, W)
        if self.mirror:
            columns = torch.where(torch.rand(count, 1) < 0.5, columns.flip(1), columns)
        samples = torch.arange(count)[:, None, None]
        moved = padded.permute(0, 2, 3, 1)[samples, rows[:, :, None], columns[:, None]]
        return moved.permute(0, 3, 1, 2).contiguous()  # (N, C, H, W)
