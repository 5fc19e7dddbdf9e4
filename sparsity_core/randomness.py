"""Random numbers of one's own, beside torch's global ones: for dropout and the like."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class Randomness:
    """A random state of its own, on the CPU and on the device that is used."""

    def __init__(self, seed: int, device: str) -> None:
        self._devices = [torch.device(device)] if torch.device(device).type == "cuda" else []
        self.states: list[Tensor] = []
        with torch.random.fork_rng(self._devices):
            torch.manual_seed(seed)
            self._take()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """What torch draws comes from here; its global state is as before afterwards."""
        with torch.random.fork_rng(self._devices):
            torch.set_rng_state(self.states[0])
            for state, device in zip(self.states[1:], self._devices, strict=True):
                torch.cuda.set_rng_state(state, device)
            try:
                yield
            finally:
                self._take()

    def _take(self) -> None:
        on_devices = [torch.cuda.get_rng_state(device) for device in self._devices]
        self.states = [torch.get_rng_state(), *on_devices]
