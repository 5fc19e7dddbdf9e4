"""Files made by `sparsity prune` in a process of its own; they outlive tabs, and the server.

A folder is named by everything that decides its content and is complete when its card is there,
so an order that was carried out once, by whomever, is not carried out again.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import psutil
import streamlit as st

from sparsity_core.digest import digest_of
from sparsity_core.errors import SparsityError
from sparsity_core.export.package import Wanted
from sparsity_core.folder import default_folder
from sparsity_core.machine import versions
from sparsity_core.recipe import Recipe

ROOT = Path(__file__).resolve().parent.parent
_CARD, _LOG, _RECIPE = "card.json", "log.txt", "asked.yaml"


@dataclass(frozen=True)
class Order:
    """What files of which model."""

    model: str
    model_digest: str
    recipe: Recipe
    device: str
    wanted: Wanted

    @property
    def folder(self) -> Path:
        """Where its files lie."""
        content = [self.model_digest, self.recipe.identity(), self.device, asdict(self.wanted)]
        return exports_folder() / digest_of([self.model, *content, versions()])

    @property
    def command(self) -> list[str]:
        """The arguments of `sparsity` that write them."""
        return ["prune", self.model, "--recipe", "recipe.yaml", "--out", "DIR", *self.options]

    @property
    def options(self) -> list[str]:
        """All but model, recipe and folder."""
        wanted = self.wanted
        options = ["--layout", wanted.layout, "--batch", str(wanted.batch)]
        options += ["--threads", str(wanted.threads), "--device", self.device]
        options += ["--shrink"] if wanted.shrunk else []
        return options + (["--onnx"] if wanted.onnx else [])


@dataclass(frozen=True)
class State:
    """How far an order is."""

    running: bool
    seconds: float = 0.0  # since it was begun
    card: dict[str, Any] | None = None  # of the complete folder
    error: str = ""


def exports_folder() -> Path:
    """Where the folders of all exports lie."""
    return default_folder() / "exports"


@dataclass(frozen=True)
class Made:
    """An export whose files are all there."""

    folder: Path
    card: dict[str, Any]

    @property
    def when(self) -> float:
        """When it was finished, in seconds since 1970."""
        return (self.folder / _CARD).stat().st_mtime

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.stat().st_size for file in self.folder.iterdir())


class Jobs:
    """The processes that this server has begun."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._orders: dict[Path, Order] = {}
        self._processes: dict[Path, tuple[subprocess.Popen[bytes], float]] = {}

    def begin(self, order: Order) -> None:
        """Begin an order, unless it is under way or done."""
        with self._lock:
            if self.state(order).running or self.state(order).card:
                return
            folder = order.folder
            try:
                folder.mkdir(parents=True, exist_ok=True)
                (folder / _RECIPE).write_text(order.recipe.to_yaml())
                with (folder / _LOG).open("wb") as log:
                    self._processes[folder] = self._start(order, log), time.monotonic()
                self._orders[folder] = order
            except OSError as error:
                raise SparsityError(
                    f"{folder}: cannot be written ({error.strerror}); free space or choose another "
                    "SPARSITY_STORE"
                ) from error

    def state(self, order: Order) -> State:
        """Where an order stands."""
        folder = order.folder
        process, begun = self._processes.get(folder, (None, 0.0))
        if process is not None and process.poll() is None:
            return State(running=True, seconds=time.monotonic() - begun)
        if (folder / _CARD).is_file():
            return State(running=False, card=json.loads((folder / _CARD).read_text()))
        if process is None:
            return State(running=False)
        lines = (folder / _LOG).read_text(errors="replace").strip().splitlines()
        said = lines[-1].removeprefix("sparsity: ") if lines else f"exit code {process.returncode}"
        return State(running=False, error=said if process.returncode != -15 else "Cancelled.")

    def cancel(self, order: Order) -> None:
        """Stop an order; nothing of it counts."""
        process, _ = self._processes.get(order.folder, (None, 0.0))
        if process is not None and process.poll() is None:
            process.terminate()
            process.wait(10)

    def under_way(self) -> list[Order]:
        """The orders that are being carried out, the oldest first."""
        return [order for order in list(self._orders.values()) if self.state(order).running]

    def made(self) -> list[Made]:
        """All finished exports of this store, the newest first."""
        cards = exports_folder().glob(f"*/{_CARD}") if exports_folder().is_dir() else []
        found = [Made(card.parent, json.loads(card.read_text())) for card in cards]
        return sorted(found, key=lambda made: made.when, reverse=True)

    def delete(self, made: Made) -> None:
        """Remove the files of a finished export."""
        with self._lock:
            process, _ = self._processes.get(made.folder, (None, 0.0))
            if process is not None and process.poll() is None:
                raise SparsityError("this export is being written anew; cancel it first")
            shutil.rmtree(made.folder)
            self._processes.pop(made.folder, None)
            self._orders.pop(made.folder, None)

    def _start(self, order: Order, log: IO[bytes]) -> "subprocess.Popen[bytes]":
        folder = order.folder
        where = ["--recipe", str(folder / _RECIPE), "--out", str(folder)]
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        process = subprocess.Popen(
            [sys.executable, "-m", "sparsity_core.cli", "prune", order.model, *where]
            + order.options,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            env=os.environ | {"PYTHONPATH": path},
        )
        psutil.Process(process.pid).nice(5)  # the app comes first
        return process


@st.cache_resource(show_spinner=False)
def jobs() -> Jobs:
    """The jobs of this server."""
    return Jobs()
