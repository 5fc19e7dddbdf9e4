"""An experiment with moving masks as words that anybody can run, and what it is, for a class."""

from typing import Any

from sparsity_core.allocations import ALLOCATIONS
from sparsity_core.dynamic import RULES, Dense, Static, UpdateRule
from sparsity_core.dynamic.plan import MovingPlan
from sparsity_core.recipe import Training

STORY = """\
Pruning starts from a trained dense network. **Dynamic sparse training** never has one: a random
sparse network is trained, and every so often a few of its weights **die**, usually the smallest,
and as many are **born** elsewhere.

- **SET** (Mocanu et al. 2018) lets them be born anywhere.
- **RigL** (Evci et al. 2020) lets them be born where the dense gradient is largest.
- **SRigL** (Lasby et al. 2024) gives every neuron as many inputs, which packs well, and takes
  neurons away that have too few to say.
- **MEST** (Yuan et al. 2021) bounds the memory. **Gradual pruning** and **AC/DC** are dense for a
  part of the time, and so dearer.
- **Static** is the control: a random mask that never moves. **Dense** is the one from above.

In its short life a network tries many more weights than it ever has at once: its *in-time
over-parameterisation* (Liu et al. 2021)."""


def rule_name(rule: UpdateRule) -> str:
    """A rule by its kind, as charts name it."""
    return RULES.kind_of(rule) if RULES.kind_of(rule) != "srigl-n:m" else RULES.label(rule)


def words_of(plan: MovingPlan) -> dict[str, Any]:
    """Command and Python, as `export.show` takes them."""
    return {"command": moving_command(plan), "python": moving_python(plan)}


def moving_command(plan: MovingPlan) -> str:
    """The command that trains the same points."""
    training = plan.training
    if training != _sayable(training):
        return "# this training has more than a command can say; use the Python"
    rules = [rule for rule in plan.rules if rule not in (Dense(), Static())]
    options = [text for rule in rules for text in _own(rule)]
    words = [
        f"sparsity train {plan.model}",
        f"--rules {','.join(rule_name(rule) for rule in rules) or 'static'}",
        f"--sparsity {','.join(f'{s!r}' for s in plan.sparsities)}",
        f"--distribution {ALLOCATIONS.kind_of(plan.allocation)}",
        f"--options {','.join(options)}" * bool(options),
        f"--skip {','.join(plan.skip)}" * bool(plan.skip),
        "--matched" * plan.matched,
        f"--seeds {','.join(map(str, plan.seeds))}",
        f"--steps {plan.steps} --every {plan.every} --optimizer {training.optimizer}",
        f"--learning-rate {training.rate!r} --batch-size {training.batch_size}",
        f"--rate-schedule {training.rate_schedule} --weight-decay {training.weight_decay!r}",
        f"--execution {plan.execution}" * (plan.execution != "simulated"),
        f"--split {plan.setting.split} --samples {plan.setting.samples}",
        f"--device {plan.setting.device}",
    ]
    return " ".join(filter(None, words))


def moving_python(plan: MovingPlan) -> str:
    """The Python that trains the same points."""
    rules = [RULES.to_dict(rule) for rule in plan.rules]
    return f"""from sparsity_core.allocations import ALLOCATIONS
from sparsity_core.dynamic import RULES
from sparsity_core.dynamic.planning import plan_moving
from sparsity_core.recipe import Training
from sparsity_core.task import load_task

task = load_task({plan.model!r})
plan = plan_moving(
    task,
    training={plan.training!r},
    rules=[RULES.from_dict(rule) for rule in {rules!r}],
    sparsities={list(plan.sparsities)!r},
    allocation=ALLOCATIONS.make({ALLOCATIONS.kind_of(plan.allocation)!r}),
    seeds={list(plan.seeds)!r},
    skip={list(plan.skip)!r},
    every={plan.every},
    matched={plan.matched!r},
    execution={plan.execution!r},
    split={plan.setting.split!r},
    samples={plan.setting.samples},
    device={plan.setting.device!r},
)
rows = list(plan.run(task, plan.points()))"""


def _own(rule: UpdateRule) -> list[str]:
    """A rule's options that are not the usual ones, as the command takes them."""
    name, told = rule_name(rule), RULES.identity(rule)
    if RULES.kind_of(rule) == "srigl-n:m":  # its shorthand says them
        told = {key: value for key, value in told.items() if key not in ("n", "m")}
    return [
        f"{name}:{key}={'/'.join(map(repr, value)) if isinstance(value, tuple) else value}"
        for key, value in told.items()
        if key != "kind"
    ]


def _sayable(training: Training) -> Training:
    """What the command's options can make of a training."""
    return Training(
        steps=training.steps,
        optimizer=training.optimizer,
        rate=training.rate,
        batch_size=training.batch_size,
        rate_schedule=training.rate_schedule,
        weight_decay=training.weight_decay,
    )
