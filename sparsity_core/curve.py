"""Whole-model curves: recipes x sparsities x seeds, before and after fine-tuning."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby, product
from typing import Any, ClassVar

from sparsity_core import checkpoint
from sparsity_core.allocations import ALLOCATIONS
from sparsity_core.behaviour import Answers, columns, flips
from sparsity_core.comparison import compare
from sparsity_core.cost import cost
from sparsity_core.curve_row import FLIPS, MEASURED, CurveResult
from sparsity_core.digest import digest_of
from sparsity_core.errors import SparsityError
from sparsity_core.machine import device_label, versions
from sparsity_core.recipe import Recipe
from sparsity_core.repairs import repairs_label
from sparsity_core.rounds import run
from sparsity_core.schedules import SCHEDULES
from sparsity_core.scorers import SCORERS
from sparsity_core.setting import Planned, Setting, setting_of
from sparsity_core.status import rows_of
from sparsity_core.structures import STRUCTURES
from sparsity_core.task import ACCURACY, Task
from sparsity_core.train import Evaluation, evaluate
from sparsity_core.weights import canonical_names, check_sparsity
from sparsity_core.workbench import Workbench, workbench

_TITLED = 4  # recipes that a plan's title names


@dataclass(frozen=True)
class CurvePoint:
    """One recipe at its sparsity, with one seed."""

    recipe: Recipe
    seed: int
    id: str


@dataclass(frozen=True)
class CurvePlan(Planned):
    """What to measure, on which model and samples; made by `plan_curve`."""

    kind: ClassVar[str] = "curve"
    setting: Setting
    recipes: tuple[Recipe, ...]
    sparsities: tuple[float, ...]
    seeds: tuple[int, ...] = (0,)

    @property
    def title(self) -> str:
        """One line for lists of runs."""
        labels = list(
            dict.fromkeys(
                f"{SCORERS.label(r.scorer)} {STRUCTURES.label(r.structure)} "
                f"{ALLOCATIONS.label(r.allocation)}"
                for r in self.recipes
            )
        )
        more = [f"{len(labels) - _TITLED} more"] if len(labels) > _TITLED + 1 else []
        named = labels[:_TITLED] if more else labels
        return f"{self.model}: whole-model curve, {'; '.join(named + more)}"

    def points(self) -> list[CurvePoint]:
        """All points, recipe by recipe."""
        where = digest_of(asdict(self.setting))
        return [
            CurvePoint(recipe.at(sparsity), seed, self._id(where, recipe.at(sparsity), seed))
            for recipe, sparsity, seed in product(self.recipes, self.sparsities, self.seeds)
        ]

    def groups(self, points: Sequence[CurvePoint]) -> list[list[CurvePoint]]:
        """Cheap points together; each fine-tuned one on its own, for it may take minutes."""
        return [
            part
            for _, group in groupby(points, lambda p: replace(p.recipe, sparsity=0.0))
            for points_of in [list(group)]
            for part in (
                [[point] for point in points_of] if points_of[0].recipe.training else [points_of]
            )
        ]

    def run(self, task: Task, points: Sequence[CurvePoint]) -> Iterator[CurveResult]:
        """A row for each point, in order; a point's own trouble is its row's status.

        What takes long saves itself in `checkpoints` beside the job's store, and is deleted there
        when the next row is asked for.
        """
        for row in self.watch(task, points):
            yield row
            checkpoint.delete(checkpoint.under_way(row.point_id))

    def watch(self, task: Task, points: Sequence[CurvePoint]) -> Iterator[CurveResult]:
        """The same rows, and what was saved of a point stays: a job deletes it with the row stored.

        So a process that dies between the two, or a full disk, costs no training.
        """
        return rows_of(points, lambda point: self._measure(task, point), self.unmeasured)

    def unmeasured(self, point: CurvePoint, status: str, message: str) -> CurveResult:
        """A row without numbers."""
        recipe = point.recipe
        return CurveResult(
            model=self.model,
            scorer=SCORERS.label(recipe.scorer) + (", shuffled" if recipe.shuffled else ""),
            structure=STRUCTURES.label(recipe.structure),
            allocation=ALLOCATIONS.label(recipe.allocation),
            schedule=SCHEDULES.label(recipe.schedule) + ("" if recipe.rescore else ", scored once"),
            repair=repairs_label(recipe.repair),
            finetune_epochs=recipe.training.epochs if recipe.training else 0,
            sparsity=recipe.sparsity,
            metric=self.setting.metric,
            split=self.setting.split,
            seed=point.seed,
            status=status,
            message=message,
            seconds=0.0,
            device=device_label(self.device),
            versions=versions(),
            recipe=recipe.digest,
            point_id=point.id,
            **dict.fromkeys(MEASURED),
        )

    def saved_under(self) -> set[str]:
        """Of a file on the way to each point."""
        return {checkpoint.under_way(point.id) for point in self.points()}

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain data."""
        return {
            "kind": self.kind,
            "setting": asdict(self.setting),
            "recipes": [recipe.to_dict() for recipe in self.recipes],
            "sparsities": list(self.sparsities),
            "seeds": list(self.seeds),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "CurvePlan":
        """The plan from plain data."""
        return cls(
            setting=Setting(**data["setting"]),
            recipes=tuple(map(Recipe.from_dict, data["recipes"])),
            sparsities=tuple(data["sparsities"]),
            seeds=tuple(data["seeds"]),
        )

    def _measure(self, task: Task, point: CurvePoint) -> CurveResult:
        recipe, bench = point.recipe, workbench(task, self.setting)
        if reason := recipe.structure.refuses(recipe.sparsity):
            return self.unmeasured(point, "skipped", reason)
        *_, last = run(
            task,
            recipe,
            seed=point.seed,
            score_samples=self.setting.score_samples,
            device=self.device,
            under_way=checkpoint.UnderWay(checkpoint.under_way(point.id)),
        )
        pruned = evaluate(
            last.model, bench.samples, loss=task.loss, metric=task.metric, device=self.device
        )
        spent = cost(last.model, bench.samples.inputs[:1])
        emptied = last.pruning.emptied
        notes = [f"no weight left in {', '.join(emptied)}"] if emptied else []
        notes += [f"{name} stays dense: {why}" for name, why in last.pruning.skipped.items()]
        notes += [f"{name} is not repaired: {why}" for name, why in last.unrepaired.items()]
        return replace(
            self.unmeasured(point, "collapsed" if emptied else "ok", "; ".join(notes)),
            achieved_sparsity=spent.sparsity,
            # Infinity is no number: a model without any parameter left has no ratio.
            compression=spent.compression if spent.nonzeros else None,
            mac_share=spent.effective_macs / spent.macs,
            **asdict(compare(bench.dense, pruned)),
            **_behaviour(task, bench, pruned),
        )

    def _id(self, where: str, recipe: Recipe, seed: int) -> str:
        return digest_of(
            {"kind": self.kind, "setting": where, "recipe": recipe.identity(), "seed": seed}
        )


def _behaviour(task: Task, bench: Workbench, pruned: Evaluation) -> dict[str, Any]:
    """What else has changed in a classifier; nothing is known of other models."""
    dense, targets = bench.dense, bench.samples.targets.cpu()
    if task.metric != ACCURACY or dense.confidences is None or pruned.confidences is None:
        return {}
    changed = flips(dense.predictions, pruned.predictions, targets)
    before = columns(Answers(dense.predictions, dense.confidences), targets)
    return {
        **{name: getattr(changed, name) for name in FLIPS},
        **columns(Answers(pruned.predictions, pruned.confidences), targets),
        **{f"dense_{name}": value for name, value in before.items()},
    }


def plan_curve(
    task: Task,
    *,
    recipes: Sequence[Recipe],
    sparsities: Sequence[float] = (0.5, 0.7, 0.8, 0.9, 0.95),
    seeds: Sequence[int] = (0,),
    **where: Any,
) -> CurvePlan:
    """A plan with every number checked; each recipe is taken at each of `sparsities`.

    `where` goes to `setting_of`. Raises SparsityError for an empty selection or bad numbers.
    """
    for what, chosen in (("recipes", recipes), ("sparsities", sparsities), ("seeds", seeds)):
        if not len(chosen):
            raise SparsityError(f"no {what} chosen; choose at least one")
    for recipe in recipes:
        canonical_names(task.model, recipe.skip)
    return CurvePlan(
        setting=setting_of(task, **where),
        # The recipe's own sparsity is replaced at each point, so it must not decide the plan.
        recipes=tuple(dict.fromkeys(recipe.at(0.0) for recipe in recipes)),
        sparsities=tuple(sorted({check_sparsity(s) for s in sparsities})),
        seeds=tuple(dict.fromkeys(seeds)),
    )
