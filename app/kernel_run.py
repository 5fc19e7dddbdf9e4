"""A stored run of kernels or of a whole model: as the Kernels page draws it, and back to it."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from app.kernel_form import LAYER, SHAPE
from app.kernel_map import draw_map
from app.kernel_source import Shown
from app.kernel_view import draw_layer
from app.kernel_words import kernels_command, kernels_python, latency_python
from app.latency_view import draw_model
from sparsity_core.kernels.bench import CONVOLUTIONS, MATRIX
from sparsity_core.kernels.latency import LatencyPlan
from sparsity_core.kernels.plan import KernelPlan


def draw_run(plan: KernelPlan | LatencyPlan, rows: Sequence[Any]) -> None:
    """The stored rows of a run."""
    shown = Shown(rows, False)
    if isinstance(plan, LatencyPlan):
        draw_model(plan, shown)
    elif len(plan.shapes) > 1:
        draw_map(plan, shown)
    else:
        draw_layer(plan, shown)


def words(plan: KernelPlan | LatencyPlan) -> tuple[str, str]:
    """The command and the Python that make the run again."""
    if isinstance(plan, LatencyPlan):
        return "# whole models are timed on the page or in Python, below", latency_python(plan)
    return kernels_command(plan), kernels_python(plan)


def view_of(plan: KernelPlan | LatencyPlan) -> dict[str, Any] | None:
    """What the page's form has to hold; None when it cannot say this run."""
    if isinstance(plan, LatencyPlan) or len(plan.shapes) > 1:
        return None
    if plan.kernels not in (MATRIX, CONVOLUTIONS):
        return None
    ((rows, cols),) = plan.shapes
    what = {"kernels-what": LAYER, "layer": plan.layer} if plan.model else {"kernels-what": SHAPE}
    shape = {} if plan.model else {"kernels-shape": f"{rows}x{cols}"}
    return {
        **what,
        **shape,
        "kernels-levels": [_percent(share) for share in plan.sparsities],
        "kernels-batches": list(plan.batches),
        "kernels-caches": list(plan.caches),
        "kernels-threads": plan.threads,
        "kernels-repeats": plan.repeats,
        "kernels-seed": plan.seed,
    }


def _percent(sparsity: float) -> int | str:
    percent = Decimal(repr(sparsity)) * 100
    return int(percent) if percent == int(percent) else f"{percent.normalize():f}"
