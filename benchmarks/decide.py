"""How often are early answers wrong, and how many samples do they need?

Every point of a sweep is measured on all samples once. Then its paired differences are dealt in
many random orders, and each order is a sweep that stops early: an answer that differs from the one
on all samples is wrong, and an order with any wrong answer is a spoilt family. Of these at most
`--error` are promised. The plain sequence of tests that people run by hand, a 95 % interval looked
at after every round, stands beside it.

    python -m benchmarks.decide
    python -m benchmarks.decide --models digits-resnet:360 --decisions 1000
"""

import argparse
import time
from dataclasses import dataclass

import numpy as np
import torch

from sparsity_core.intervals import paired_difference
from sparsity_core.machine import device_label, versions
from sparsity_core.prune import checked_scores, masks_from_units, unit_scores
from sparsity_core.sweep.decide import whole_model
from sparsity_core.sweep.order import Numbers, order_of, rates_from
from sparsity_core.sweep.plan import plan_sweep
from sparsity_core.sweep.sequential import Question, Standing, rounds
from sparsity_core.task import Task, load_task
from sparsity_core.workbench import workbench

MODELS = "mnist-lenet-300-100:10000,mnist-lenet5:10000"
LEVELS = tuple(level / 10 for level in range(1, 10))


@dataclass(frozen=True)
class Tally:
    """What became of many early sweeps of one model."""

    wrong: int
    spoilt: int
    decisions: int
    families: int
    samples: Numbers  # that each decision took
    by_hand: int  # wrong decisions of the interval looked at again and again

    def line(self, population: int) -> str:
        """A row of the table."""
        share = self.samples.mean() / population
        quartiles = "/".join(f"{q:.0f}" for q in np.quantile(self.samples, (0.25, 0.5, 0.75)))
        return (
            f"{self.decisions:>9} {self.wrong:>6} {f'{self.spoilt} of {self.families}':>10}"
            f"{self.by_hand:>9} {share:>7.3f} {1 / share:>7.1f} x {quartiles:>16}"
        )


def differences(
    task: Task, samples: int, levels: tuple[float, ...] = LEVELS
) -> tuple[Numbers, Numbers]:
    """Dense minus pruned correctness, (points, samples), and the dense losses (samples,).

    The points are all layers x levels by magnitude.
    """
    plan = plan_sweep(task, sparsities=levels, split="test", samples=samples)
    bench = workbench(task, plan.setting)
    sampler = whole_model(bench)
    found = []
    for point in plan.points():
        probe = bench.probe(point.seed)
        scores = checked_scores(probe, point.scorer, [point.layer])[point.layer]
        units = unit_scores(probe, point.layer, scores, point.scorer, point.structure)
        layer = probe.layers[point.layer]
        masks = masks_from_units(layer, units, point.structure, point.sparsity)
        pruned = sampler(point.layer, [masks], bench.samples)(0)
        found.append((bench.dense.values - pruned.values).double().numpy())
    return np.stack(found), bench.dense.losses.double().numpy()


def tally(points: Numbers, rates: Numbers, threshold: float, error: float, families: int) -> Tally:
    """Decide all points (points, samples) in `families` random orders at these rates."""
    question = Question(threshold, error=error, points=len(points))
    truths = ["more than" if point.mean() > threshold else "at most" for point in points]
    wrong, by_hand, spoilt, taken = 0, 0, 0, []
    for seed in range(families):
        order = order_of(rates, seed)
        evenly = np.random.default_rng(seed).permutation(len(order))
        before = wrong
        for point, truth in zip(points, truths, strict=True):
            standing = _settled(Standing(question, order), point[order.samples])
            wrong += standing.verdict != truth
            taken.append(len(standing.seen))
            by_hand += _looked_at_again(threshold, point[evenly]) not in (truth, "undecided")
        spoilt += wrong > before
    return Tally(wrong, spoilt, len(taken), families, np.array(taken, dtype=float), by_hand)


def _settled(standing: Standing, numbers: Numbers) -> Standing:
    for where in rounds(len(numbers)):
        standing = standing.after(numbers[where])
        if standing.settled:
            break
    return standing


def _looked_at_again(threshold: float, numbers: Numbers) -> str:
    """The answer of a 95 % interval for one look, looked at after every round."""
    for where in rounds(len(numbers))[:-1]:
        seen = torch.from_numpy(numbers[: where.stop])
        # A sample counts 1 where only the one or the other model is right.
        found = paired_difference((seen > 0).double(), (seen < 0).double())
        if found.low > threshold:
            return "more than"
        if found.high <= threshold:
            return "at most"
    return "undecided"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=MODELS, help=f"name:samples of test; default {MODELS}")
    parser.add_argument("--thresholds", default="0.01,0.05", help="default 0.01,0.05")
    parser.add_argument("--levels", default=",".join(map(str, LEVELS)), help="default 0.1 to 0.9")
    parser.add_argument("--decisions", type=int, default=10_000, help="a model and threshold")
    parser.add_argument("--error", type=float, default=0.05, help="of a whole sweep; default 0.05")
    parser.add_argument("--even", action="store_true", help="no sample comes sooner than others")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{device_label('cpu')}; {versions()}; error rate of a whole sweep {chosen.error:g}")
    print(
        f"{'model':21}{'samples':>8}{'points':>7}{'over':>6} {'decisions':>9} {'wrong':>6} "
        f"{'spoilt':>10}{'by hand':>9} {'share':>7} {'fewer':>9} {'quartiles':>16}"
    )
    for name, samples in (entry.split(":") for entry in chosen.models.split(",")):
        started = time.perf_counter()
        levels = tuple(map(float, chosen.levels.split(",")))
        points, losses = differences(load_task(name), int(samples), levels)
        rates = np.ones(len(losses)) if chosen.even else rates_from(losses)
        measured = time.perf_counter() - started
        for threshold in map(float, chosen.thresholds.split(",")):
            families = -(-chosen.decisions // len(points))
            found = tally(points, rates, threshold, chosen.error, families)
            print(
                f"{name:21}{samples:>8}{len(points):>7}{threshold:>6g} {found.line(int(samples))}",
                flush=True,
            )
        spent = time.perf_counter() - started - measured
        print(f"  {measured:.0f} s to measure all points once, {spent:.0f} s to decide", flush=True)


if __name__ == "__main__":
    main()
