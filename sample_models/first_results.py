"""Makes the finished sweep and curve that ship: `python -m sample_models.first_results`."""

import json
import shlex
import tempfile
from typing import Any

from sample_models.card import RESULTS, rows_to_ship
from sparsity_core.cli import main
from sparsity_core.store import Store

MODEL = "digits-lenet"
COMMANDS = {
    "sensitivity": f"sparsity sweep {MODEL} --scorers magnitude,taylor,random "
    "--structures unstructured,out-channel,2:4 --sparsities .3,.5,.7,.8,.9,.95",
    "curve": f"sparsity curve {MODEL} --sparsities .3,.5,.7,.8,.9,.95,.98 --random "
    "--finetune-epochs 5 --rate .05 --seeds 0,1,2",
}


def make(command: str) -> dict[str, Any]:
    """Run a command in a store of its own; the content of its file."""
    _, *arguments = shlex.split(command)
    with tempfile.TemporaryDirectory() as folder:
        if main([*arguments, "--store", folder]):
            raise SystemExit("some points failed")
        store = Store(folder)
        (run,) = store.runs()
        plan = store.plan(run.id)
        rows = rows_to_ship(store.rows(plan))
    return {"command": command, "plan": plan.to_dict(), "rows": rows}


if __name__ == "__main__":
    for name, command in COMMANDS.items():
        text = json.dumps(make(command), separators=(",", ":"))
        lines = text.replace('},{"model"', '},\n{"model"')  # so that a change can be read
        (RESULTS / f"{MODEL}-{name}.json").write_text(lines + "\n")
