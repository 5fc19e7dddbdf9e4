"""A ticket plan as words that anybody can run, and what the experiment is, for a class."""

from typing import Any

from sparsity_core.recipe import Training
from sparsity_core.tickets.plan import TicketPlan

STORY = """\
Prune a trained network and train what is left again from new weights: it does worse, so it was
long held that small networks have to be cut from large ones *after* training. **The lottery ticket
hypothesis** (Frankle & Carbin 2019, [arXiv 1803.03635](https://arxiv.org/abs/1803.03635)) says that
a dense network holds a small one that could have been trained alone from the very start, if only
its weights keep the values that they were drawn with: a winning ticket.

1. Draw weights and train the dense network.
2. Prune the smallest weights, a share in each layer.
3. Set the weights that stay back to what they were at the start (or at an early step), train again.
4. Do 2 and 3 in rounds, and compare each round with its controls below."""


def words_of(plan: TicketPlan) -> dict[str, Any]:
    """What every chart's export says: the command and the Python."""
    return {"command": tickets_command(plan), "python": tickets_python(plan)}


def tickets_command(plan: TicketPlan) -> str:
    """The command that trains the same points."""
    training, rule = plan.training, plan.rule
    if training != _sayable(training):
        return "# this training has more than a command can say; use the Python"
    controls = [arm for arm in plan.arms if arm not in ("ticket", "corrupted-finder")]
    words = [
        f"sparsity tickets {plan.model} --rounds {plan.rounds} --rate {rule.share!r}",
        f"--last-rate {rule.share if rule.last_share is None else rule.last_share!r}",
        f"--scope {rule.scope}" * (rule.scope != "layer"),
        f"--seeds {_listed(plan.seeds)} --rewind {_listed(plan.rewinds)}",
        f"--controls {','.join(controls)}" * bool(controls),
        f"--control-rounds {_listed(plan.control_rounds)}" * bool(plan.control_rounds),
        f"--steps {plan.steps} --every {plan.every} --optimizer {training.optimizer}",
        f"--learning-rate {training.rate!r} --batch-size {training.batch_size}",
        f"--rate-schedule {training.rate_schedule} --weight-decay {training.weight_decay!r}",
        f"--split {plan.setting.split} --samples {plan.setting.samples}",
        f"--device {plan.setting.device}",
    ]
    return " ".join(filter(None, words))


def tickets_python(plan: TicketPlan) -> str:
    """The Python that trains the same points."""
    return f"""from typing import Any

from sparsity_core.recipe import Training
from sparsity_core.task import load_task
from sparsity_core.tickets.plan import plan_tickets
from sparsity_core.tickets.rule import Rule

task = load_task({plan.model!r})
plan = plan_tickets(
    task,
    training={plan.training!r},
    rounds={plan.rounds},
    rule={plan.rule!r},
    arms={list(plan.arms)!r},
    rewinds={list(plan.rewinds)!r},
    seeds={list(plan.seeds)!r},
    control_rounds={list(plan.control_rounds)!r},
    every={plan.every},
    split={plan.setting.split!r},
    samples={plan.setting.samples},
    device={plan.setting.device!r},
)
rows = list(plan.run(task, plan.points()))"""


def masks_python(plan: TicketPlan, seed: int, rewind: int) -> str:
    """The Python that gets the ticket's masks of every round, once trained."""
    return (
        tickets_python(plan)
        + f"""

from sparsity_core.tickets.trial import end_of

masks = [
    end_of(task, plan, plan.point({seed}, "ticket", {rewind}, number)).masks
    for number in range(1, {plan.rounds + 1})
]"""
    )


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


def _listed(numbers: tuple[int, ...]) -> str:
    return ",".join(map(str, numbers))
