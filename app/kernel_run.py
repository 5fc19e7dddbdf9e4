"""A stored run of kernels or of a whole model: as the Kernels page draws it, and back to it."""

from collections.abc import Sequence
from typing import Any

from app.forms import level
from app.kernel_device import GPU_NAME
from app.kernel_form import LAYER, MAP, MODEL, ONE, SHAPE, TYPES, formats_key
from app.kernel_map import draw_map
from app.kernel_source import Shown
from app.kernel_view import draw_layer
from app.kernel_words import kernels_command, kernels_python, latency_python
from app.latency_view import draw_model
from sparsity_core.allocations import ALLOCATIONS
from sparsity_core.kernels.bench import CONVOLUTIONS, MATRIX
from sparsity_core.kernels.gpu_race import GPU
from sparsity_core.kernels.latency import LatencyPlan
from sparsity_core.kernels.plan import KernelPlan
from sparsity_core.recipe import Recipe
from sparsity_core.scorers import SCORERS


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
    if isinstance(plan, LatencyPlan):
        return _latency_view(plan)
    if len(plan.shapes) > 1:
        return _map_view(plan)
    ((rows, cols),) = plan.shapes
    what = {"kernels-what": LAYER, "layer": plan.layer} if plan.model else {"kernels-what": SHAPE}
    shape = {} if plan.model else {"kernels-shape": f"{rows}x{cols}"}
    on = {"kernels-device": GPU_NAME, "kernels-dtype": plan.dtype}
    return {
        "kernels-view": ONE,
        **({} if plan.device == "cpu" else on),
        **what,
        **shape,
        "kernels-types": list(TYPES),
        "kernels-caches": list(plan.caches),
        **_shared("kernels", plan),
    }


def formats_of(plan: KernelPlan) -> dict[str, list[str]]:
    """The formats as the form of one layer keeps them, which no link carries; none = all."""
    known = next(known for known in (MATRIX, CONVOLUTIONS, GPU) if set(plan.kernels) <= set(known))
    return {formats_key(known): [] if plan.kernels == known else list(plan.kernels)}


def _map_view(plan: KernelPlan) -> dict[str, Any] | None:
    if plan.caches != ("hot",) or plan.device != "cpu":
        return None
    return {
        "kernels-view": MAP,
        "map-shapes": [f"{rows}x{cols}" for rows, cols in plan.shapes],
        "map-kernels": list(plan.kernels),
        **_shared("map", plan),
    }


def _latency_view(plan: LatencyPlan) -> dict[str, Any] | None:
    recipe = plan.recipe
    # The sidebar says the first choices, whole per cents, and no more.
    plain = Recipe(
        round(100 * recipe.sparsity) / 100,
        SCORERS.make(SCORERS.kind_of(recipe.scorer)),
        recipe.structure,
        ALLOCATIONS.make(ALLOCATIONS.kind_of(recipe.allocation)),
        skip=recipe.skip,
    )
    if recipe != plain or plan.seed:
        return None
    return {
        "kernels-view": MODEL,
        "latency-batches": list(plan.batches),
        "latency-threads": plan.threads,
        "latency-fold": plan.fold,
        "latency-others": plan.others,
    }


def _shared(form: str, plan: KernelPlan) -> dict[str, Any]:
    return {
        f"{form}-levels": [level(share) for share in plan.sparsities],
        f"{form}-batches": list(plan.batches),
        f"{form}-threads": plan.threads,
        f"{form}-repeats": plan.repeats,
        f"{form}-seed": plan.seed,
    }
