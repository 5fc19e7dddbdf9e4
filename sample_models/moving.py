"""Makes the finished experiment with moving masks that ships: `python -m sample_models.moving`.

What the store has already is not trained again.
"""

import gzip
import json
import shlex
from typing import Any

from sample_models.card import RESULTS, rows_to_ship
from sparsity_core.cli import main
from sparsity_core.dynamic import RULES
from sparsity_core.dynamic.film import packed
from sparsity_core.dynamic.trial import film_so_far
from sparsity_core.store import Store
from sparsity_core.task import load_task

MODEL = "mnist-lenet-300-100"
COMMAND = (
    # SET moves once an epoch, which has 550 steps.
    f"sparsity train {MODEL} --rules set-rigl,set,rigl,srigl,gmp --sparsity .98 "
    "--interval 100 --steps 3000 --batch-size 100 --learning-rate 0.1 --weight-decay 1e-4 "
    "--every 150 --seeds 0,1 --options set:every=550"
)
_FILMED = ("set", "rigl", "srigl")  # of seed 0


def make() -> dict[str, Any]:
    """Train what is missing; the content of the file."""
    _, *arguments = shlex.split(COMMAND)
    if main(arguments):
        raise SystemExit("some trainings failed")
    store = Store()
    plan = next(p for p in map(store.plan, (run.id for run in store.runs())) if p.kind == "moving")
    films = {}
    for training in plan.trainings():
        if training.seed == 0 and RULES.kind_of(training.rule) in _FILMED:
            film = film_so_far(training)
            assert film is not None
            films[training.id] = packed(film)
    rows = rows_to_ship(store.rows(plan))
    image = list(load_task(plan.model).train.inputs.shape[1:])
    found = {"command": COMMAND, "plan": plan.to_dict(), "image": image}
    return found | {"films": films, "rows": rows}


if __name__ == "__main__":
    text = json.dumps(make(), separators=(",", ":"))
    # Without a time stamp, so that the same content is the same file.
    (RESULTS / f"{MODEL}-moving.json.gz").write_bytes(gzip.compress(text.encode(), 9, mtime=0))
