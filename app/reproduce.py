"""What is on screen as words that anybody can run: a command, or a few lines of Python."""

from dataclasses import replace

from sparsity_core.scorers import SCORERS
from sparsity_core.structures import STRUCTURES
from sparsity_core.sweep.plan import SweepPlan
from sparsity_core.sweep.rerun import BUDGET
from sparsity_core.sweep.sequential import Question


def sweep_command(plan: SweepPlan) -> str:
    """The command that measures the same points."""
    lists = {
        "layers": plan.layers,
        "scorers": tuple(map(SCORERS.label, plan.scorers)),
        "structures": tuple(map(STRUCTURES.label, plan.structures)),
        "sparsities": tuple(map(repr, plan.sparsities)),
        "seeds": tuple(map(str, plan.seeds)),
    }
    options = [f"--{name} {','.join(values)}" for name, values in lists.items()]
    options += [
        f"--split {plan.setting.split}",
        f"--samples {plan.setting.samples}",
        f"--score-samples {plan.setting.score_samples}",
        f"--device {plan.setting.device}",
        f"--engine {plan.engine}",
        *_question_options(plan.question),
        *([f"--memory {plan.memory}"] if plan.memory != BUDGET else []),
    ]
    return f"sparsity sweep {plan.model} " + " ".join(options)


def _question_options(question: Question | None) -> list[str]:
    if question is None:
        return []
    over = question.threshold is not None
    asked = question.threshold if over else question.width
    return [
        f"--drop-{'over' if over else 'within'} {_percent(asked)}",
        f"--error {_percent(question.error)}",
    ]


def _percent(share: float | None) -> str:
    return f"{round(100 * (share or 0), 6):g}"


def sweep_python(plan: SweepPlan) -> str:
    """The Python that measures the same points."""
    asked = repr(plan.question and replace(plan.question, points=1))
    needed = "from sparsity_core.sweep.sequential import Question\n" if plan.question else ""
    return f"""from sparsity_core.sweep.plan import plan_sweep
{needed}from sparsity_core.task import load_task

task = load_task({plan.model!r})
plan = plan_sweep(
    task,
    layers={list(plan.layers)!r},
    scorers={list(map(SCORERS.label, plan.scorers))!r},
    structures={list(map(STRUCTURES.label, plan.structures))!r},
    sparsities={list(plan.sparsities)!r},
    seeds={list(plan.seeds)!r},
    split={plan.setting.split!r},
    samples={plan.setting.samples},
    score_samples={plan.setting.score_samples},
    device={plan.setting.device!r},
    engine={plan.engine!r},
    memory={plan.memory},
    question={asked},
)
rows = list(plan.run(task, plan.points()))"""


def weights_python(model: str, layer: str, bins: int) -> str:
    """The Python that counts a layer's weights by value."""
    return f"""import numpy as np

from sparsity_core.task import load_task

task = load_task({model!r})
weights = dict(task.model.named_parameters())[{layer!r}].detach().numpy()
limit = abs(weights).max()
counts, edges = np.histogram(weights, {bins}, (-limit, limit))"""
