"""The finished example of the Kernels page: measured on one machine, shown with its name.

python -m sample_models.kernels layer|map|models    # each a few minutes; alone on the machine
"""

import json
import sys
from collections.abc import Callable
from typing import Any

from sample_models.card import RESULTS
from sparsity_core.executors import InProcess
from sparsity_core.jobs import submit
from sparsity_core.kernels.compact import compact
from sparsity_core.kernels.latency import LatencyPlan, plan_latency
from sparsity_core.kernels.plan import KernelPlan, plan_kernels
from sparsity_core.recipe import Recipe
from sparsity_core.store import Store
from sparsity_core.task import load_task

FILE = RESULTS / "kernels.json"
SHAPES = ((256, 256), (768, 768), (768, 3072), (3072, 768), (2048, 2048))
LEVELS = (0.5, 0.7, 0.8, 0.9, 0.95)
OURS = ("permute", "balanced", "tiled", "blocks")
MODELS = (
    *("digits-lenet", "digits-mobilenet", "digits-vit", "mnist-lenet-300-100"),
    "cifar10-resnet20",
)
_MAPPED = (
    *("kernel", "structure", "rows", "cols", "batch", "threads", "sparsity", "asked", "cache"),
    *("dtype", "p50", "speedup_vs_dense", "noise", "device", "versions", "status", "message"),
    *("model", "layer"),
)


def _layer() -> dict[str, Any]:
    """The layer of SRigL's headline, as the page's form has it; batch 1 from a cold cache too."""
    hot = plan_kernels(sparsities=(0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99), repeats=11)
    cold = plan_kernels(sparsities=(0.8, 0.9, 0.95), batches=(1,), caches=("cold",), repeats=11)
    return compact(_rows(hot) + _rows(cold))


def _map() -> dict[str, Any]:
    plan = plan_kernels(shapes=SHAPES, sparsities=LEVELS, kernels=OURS, repeats=5)
    return compact(_rows(plan), _MAPPED)


def _models() -> dict[str, Any]:
    rows = []
    for name in MODELS:
        task = load_task(name)
        batches = (1,) if name.startswith("cifar10") else (1, 64)  # compiling takes minutes
        rows += _rows(plan_latency(task, Recipe(0.9), batches=batches, others=True))
    return compact(rows)


def _rows(plan: KernelPlan | LatencyPlan) -> list[Any]:
    """All rows of a plan; those that an interrupted run has stored are not timed again."""
    store = Store()
    job = submit(plan, store, InProcess())
    while not job.wait(10):
        print(f"{job.view.done} of {job.total}", flush=True)
    return store.rows(plan)


PARTS: dict[str, Callable[[], dict[str, Any]]] = {"layer": _layer, "map": _map, "models": _models}


def main() -> None:
    """Measure one part and write it into the file."""
    part = sys.argv[1]
    content = json.loads(FILE.read_text()) if FILE.is_file() else {}
    content[part] = PARTS[part]()
    FILE.write_text(json.dumps(content, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
