"""Makes the finished ticket experiment that ships: `python -m sample_models.tickets`.

What the store has already is not trained again.
"""

import gzip
import json
import shlex
from argparse import ArgumentParser
from typing import Any

from sample_models.card import RESULTS, rows_to_ship
from sparsity_core.cli import main
from sparsity_core.cli.tickets import add_tickets, plan_of
from sparsity_core.store import Store
from sparsity_core.task import load_task
from sparsity_core.tickets.lifetimes import lifetimes_of, packed
from sparsity_core.tickets.trial import end_of

COMMAND = (
    "sparsity tickets digits-lenet --rounds 8 --rate .3 --seeds 0,1,2 "
    "--controls one-shot,reinitialised,random,other-order --steps 600 --every 20 "
    "--learning-rate .003"
)


def make() -> dict[str, Any]:
    """Train what is missing; the content of the file."""
    _, *arguments = shlex.split(COMMAND)
    if main(arguments):
        raise SystemExit("some trainings failed")
    parser = ArgumentParser()
    add_tickets(parser.add_subparsers())
    chosen = parser.parse_args(arguments)
    task = load_task(chosen.model)
    plan = plan_of(task, chosen)
    lives = {
        seed: packed(
            lifetimes_of(
                [
                    end_of(task, plan, plan.point(seed, "ticket", 0, number)).masks
                    for number in range(1, plan.rounds + 1)
                ]
            )
        )
        for seed in plan.seeds
    }
    rows = rows_to_ship(Store().rows(plan))
    return {"command": COMMAND, "plan": plan.to_dict(), "lifetimes": lives, "rows": rows}


if __name__ == "__main__":
    text = json.dumps(make(), separators=(",", ":"))
    # Without a time stamp, so that the same content is the same file.
    (RESULTS / "digits-lenet-tickets.json.gz").write_bytes(gzip.compress(text.encode(), 9, mtime=0))
