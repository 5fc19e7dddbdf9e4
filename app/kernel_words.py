"""Timings as words that anybody can run: a command, or a few lines of Python."""

from sparsity_core.kernels.latency import LatencyPlan
from sparsity_core.kernels.plan import KernelPlan


def kernels_command(plan: KernelPlan) -> str:
    """The commands that time the same points, one for each shape."""
    shared = (
        f"--sparsities {','.join(map(repr, plan.sparsities))} "
        f"--batches {','.join(map(str, plan.batches))} --formats {','.join(plan.kernels)} "
        f"--caches {','.join(plan.caches)} --threads {plan.threads} --repeats {plan.repeats} "
        f"--seed {plan.seed}"
    )
    if plan.device != "cpu":
        shared += f" --device {plan.device} --dtype {plan.dtype}"
    what = [f"--model {plan.model} --layer {plan.layer}"] if plan.model else []
    what = what or [f"--shape {rows}x{cols}" for rows, cols in plan.shapes]
    return "\n".join(f"sparsity kernels {one} {shared}" for one in what)


def kernels_python(plan: KernelPlan) -> str:
    """The Python that times the same points."""
    first = f"load_task({plan.model!r})" if plan.model else "None"
    where = f"task, {plan.layer!r}" if plan.model else "task"
    on = (
        ""
        if plan.device == "cpu"
        else f"""
    device={plan.device!r},
    dtype={plan.dtype!r},"""
    )
    return f"""from sparsity_core.kernels.plan import plan_kernels
from sparsity_core.kernels.words import in_words
from sparsity_core.task import load_task

task = {first}
plan = plan_kernels(
    {where},
    shapes={list(plan.shapes)!r},
    sparsities={list(plan.sparsities)!r},
    batches={list(plan.batches)!r},
    caches={list(plan.caches)!r},
    kernels={list(plan.kernels)!r},
    threads={plan.threads},
    repeats={plan.repeats},
    seed={plan.seed},{on}
)
rows = list(plan.run(task, plan.points()))
print(in_words(rows))"""


def latency_python(plan: LatencyPlan) -> str:
    """The Python that times a whole model before and after packing."""
    return f"""from sparsity_core.kernels.latency import plan_latency
from sparsity_core.recipe import Recipe
from sparsity_core.task import load_task

task = load_task({plan.model!r})
recipe = Recipe.from_dict({plan.recipe.to_dict()!r})
plan = plan_latency(
    task,
    recipe,
    batches={list(plan.batches)!r},
    threads={plan.threads},
    fold={plan.fold},
    others={plan.others},
)
rows = list(plan.run(task, plan.points()))"""
