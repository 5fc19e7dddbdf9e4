"""What the command `sparsity` understands; bad input is one line and exit code 2."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from sparsity_core.cli.curve import add_curve_options
from sparsity_core.cli.kernels import add_kernels
from sparsity_core.cli.own import add_own
from sparsity_core.cli.report import add_report
from sparsity_core.cli.take import add_check, add_prune
from sparsity_core.cli.tickets import add_tickets
from sparsity_core.cli.train import add_train
from sparsity_core.cli.where import add_measured, add_out, add_store
from sparsity_core.errors import SparsityError
from sparsity_core.folder import default_folder_at

# Only argparse is imported here: torch takes seconds, and --help should not.

_EXAMPLES = """examples:
  sparsity models
  sparsity sweep digits-lenet --scorers magnitude,taylor --structures unstructured,2:4
  sparsity curve digits-mlp --sparsities .5,.9,.95 --finetune-epochs 3 --seeds 0,1,2 --random
  sparsity tickets digits-mlp --rounds 6 --seeds 0,1,2 --controls reinitialised,random
  sparsity kernels --shape 768x3072 --sparsities .8,.9,.95 --batches 1,64
  sparsity prune digits-lenet --recipe recipe.yaml --out lenet --shrink --onnx
  sparsity check digits-lenet --recipe recipe.yaml --max-drop 1 --min-speedup 1.5
  sparsity train digits-mlp --rules rigl,set --sparsity .9 --interval 20 --seeds 0,1,2
  sparsity sweep my.models:make --weights best.safetensors --data ./val --input-size 3x224x224
  sparsity runs
  sparsity report 0a1b2c3d --out report.html
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 0 when all is well, 1 when points failed, 2 for bad input."""
    chosen = _parser().parse_args(arguments)
    sys.path.insert(0, str(Path.cwd()))  # so that module:factory finds what lies here
    try:
        action: Callable[[argparse.Namespace], int] = chosen.action
        with default_folder_at(getattr(chosen, "store", None)):  # checkpoints lie there too
            return action(chosen)
    except SparsityError as error:
        print(f"sparsity: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `sparsity models | head`
        sys.stderr.close()
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sparsity",
        description="See and measure what sparsity does to a neural network.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_sweep(commands)
    _add_curve(commands)
    add_tickets(commands)
    add_kernels(commands)
    add_prune(commands)
    add_check(commands)
    add_train(commands)
    _add_lists(commands)
    _add_runs(commands)
    add_report(commands)
    return parser


def _add_sweep(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    sweep = commands.add_parser(
        "sweep", help="prune one layer at a time and measure what each sparsity costs"
    )
    _add_where(sweep)
    sweep.add_argument("--layers", default="all", metavar="all|NAME,...", help="default: all")
    sweep.add_argument("--scorers", default="magnitude", metavar="A,B")
    sweep.add_argument("--structures", default="unstructured", metavar="A,B", help="2:4, 4x4, ...")
    sweep.add_argument("--seed", "--seeds", dest="seeds", default="0", metavar="S[,S]")
    sweep.add_argument(
        "--engine", default="fast", metavar="NAME",
        help="fast, exact, bitwise, verified or reference: same counts, see the README",
    )  # fmt: skip
    early = sweep.add_mutually_exclusive_group()
    early.add_argument(
        "--drop-over", type=float, metavar="POINTS",
        help="early answers: stop a point once it is sure whether its drop is over this",
    )  # fmt: skip
    early.add_argument(
        "--drop-within", type=float, metavar="POINTS",
        help="early answers: stop a point once its drop is known to so many points",
    )  # fmt: skip
    sweep.add_argument(
        "--error", type=float, default=5.0, metavar="PERCENT",
        help="chance that any early answer of the sweep is wrong; default 5",
    )  # fmt: skip
    sweep.add_argument(
        "--memory", metavar="BYTES",
        help="of dense values that a process may keep, as 512M or 2G; default 1G",
    )  # fmt: skip
    sweep.set_defaults(action=_sweep)


def _add_curve(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    curve = commands.add_parser(
        "curve",
        help="prune the whole model: as pruned, with batch norms anew, and fine-tuned",
    )
    _add_where(curve)
    add_curve_options(curve)


def _add_where(command: argparse.ArgumentParser) -> None:
    """What sweep and curve share: model, samples, sparsities, where results go."""
    command.add_argument("model", metavar="MODEL", help="see `sparsity models`; or your own")
    command.add_argument("--sparsities", default=".5,.7,.8,.9,.95", metavar=".5,.9")
    command.add_argument(
        "--score-samples", type=int, default=512, help="of train, for scorers with data"
    )
    add_measured(command, "validation", "train, validation or test")
    add_own(command)


def _add_lists(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    models = commands.add_parser("models", help="list the models")
    models.set_defaults(action=_models)
    for stage in ("scorers", "structures", "allocations", "schedules", "repairs", "rules"):
        command = commands.add_parser(stage, help=f"list the {stage}")
        command.set_defaults(action=_choices, stage=stage)


def _add_runs(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    runs = commands.add_parser("runs", help="list what was computed; export, resume, delete")
    runs.add_argument("run", nargs="?", metavar="ID", help="a run's id or its beginning")
    add_out(runs)
    act = runs.add_mutually_exclusive_group()
    act.add_argument("--resume", action="store_true", help="run what is missing or failed")
    act.add_argument("--delete", action="store_true", help="remove the run and its own points")
    runs.add_argument("--workers", type=int, default=0)
    add_store(runs)
    runs.set_defaults(action=_runs)


def _sweep(chosen: argparse.Namespace) -> int:
    from sparsity_core.cli.measure import sweep

    return sweep(chosen)


def _models(_: argparse.Namespace) -> int:
    from sparsity_core.cli.lists import models

    return models()


def _choices(chosen: argparse.Namespace) -> int:
    from sparsity_core.cli.lists import choices

    return choices(chosen.stage)


def _runs(chosen: argparse.Namespace) -> int:
    from sparsity_core.cli.runs import runs

    return runs(chosen)
