"""`sparsity kernels`: time kernels against each other on this machine, print, write."""

import argparse
import sys

from sparsity_core.cli.own import add_own, reference, tell
from sparsity_core.cli.where import add_out, add_store
from sparsity_core.errors import SparsityError


def add_kernels(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The options of the command."""
    kernels = commands.add_parser(
        "kernels", help="time sparse kernels against dense on this machine"
    )
    kernels.add_argument("--shape", metavar="OUTxIN", help="Linear layer; default 768x3072")
    kernels.add_argument("--model", metavar="MODEL", help="with --layer; or your own")
    kernels.add_argument("--layer", metavar="NAME", help="name of its weight, or first, last")
    kernels.add_argument("--sparsities", default=".8,.9,.95,.99", metavar=".8,.9")
    kernels.add_argument("--batches", default="1,8,64,256", metavar="1,8")
    kernels.add_argument(
        "--formats", default="all", metavar="all|A,B", help="kernels; dense ones are always there"
    )
    kernels.add_argument("--caches", default="hot", metavar="hot,cold")
    kernels.add_argument("--threads", type=int, default=1)
    kernels.add_argument(
        "--device", default="cpu", choices=("cpu", "cuda"), help="cuda: the GPU's own kernels"
    )
    kernels.add_argument(
        "--dtype", default="", metavar="TYPE", help="on a GPU: bfloat16, float16 or float32"
    )
    kernels.add_argument("--repeats", type=int, default=30)
    kernels.add_argument("--seed", type=int, default=0, help="another one times anew")
    add_out(kernels)
    kernels.add_argument(
        "--details", action="store_true", help="all columns: limits, noise, energy, reasons"
    )
    kernels.add_argument("--workers", type=int, default=0, help=argparse.SUPPRESS)
    add_store(kernels)
    add_own(kernels, timed=False)
    kernels.set_defaults(action=_run)


def _run(chosen: argparse.Namespace) -> int:
    from sparsity_core.cli.files import check_target, write_rows
    from sparsity_core.cli.kernel_table import print_kernels
    from sparsity_core.cli.measure import collect, names, numbers
    from sparsity_core.kernels.plan import plan_kernels
    from sparsity_core.kernels.row import COLUMNS
    from sparsity_core.kernels.words import in_words
    from sparsity_core.task import load_task

    check_target(chosen.out)
    if bool(chosen.model) != bool(chosen.layer) or (chosen.model and chosen.shape):
        raise SparsityError("give --model and --layer together, or --shape alone")
    task = load_task(reference(chosen)) if chosen.model else None
    tell(task.notes if task else ())
    plan = plan_kernels(
        task,
        chosen.layer or "",
        shapes=[_shape(chosen.shape or "768x3072")],
        sparsities=numbers(chosen.sparsities, "sparsities", float),
        batches=numbers(chosen.batches, "batches", int),
        caches=names(chosen.caches),
        kernels=names(chosen.formats),
        threads=chosen.threads,
        repeats=chosen.repeats,
        seed=chosen.seed,
        device=chosen.device,
        dtype=chosen.dtype or ("float32" if chosen.device == "cpu" else "bfloat16"),
    )
    rows = collect(plan, task, chosen)
    if rows is None:
        return 130
    print_kernels(rows)
    if chosen.out:
        more = ("cache",) if len(plan.caches) > 1 else ()
        write_rows(rows, chosen.out, None if chosen.details else (*COLUMNS, *more))
        print(f"{len(rows)} rows -> {chosen.out}", file=sys.stderr)
    print(in_words(rows))
    return 1 if any(row.status == "failed" for row in rows) else 0


def _shape(text: str) -> tuple[int, int]:
    rows, _, cols = text.partition("x")
    if not (rows.isdecimal() and cols.isdecimal()):
        raise SparsityError(f"--shape {text}: write outputs and inputs, such as 768x3072")
    return int(rows), int(cols)
