"""`sparsity report`: a stored run as one HTML file or a notebook."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sparsity_core.cli.where import add_store

# Torch is imported when the command runs and not for --help.


def add_report(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The options of `sparsity report`."""
    parser = commands.add_parser("report", help="a run as a page to read or a notebook to run")
    parser.add_argument("run", metavar="RUN", help="a run's id or its beginning; `sparsity runs`")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help=".html or .ipynb")
    add_store(parser)
    parser.set_defaults(action=report)


def report(chosen: argparse.Namespace) -> int:
    """Write the file, in the form that its suffix says."""
    from sparsity_core.errors import SparsityError
    from sparsity_core.export.files import write_bytes
    from sparsity_core.report.notebook import notebook
    from sparsity_core.report.page import page
    from sparsity_core.store import Store

    forms: dict[str, Callable[..., Any]] = {".html": page, ".ipynb": notebook}
    if chosen.out.suffix not in forms:
        raise SparsityError(
            f"--out {chosen.out}: unknown kind of file {chosen.out.suffix!r}; use .html or .ipynb"
        )
    store = Store(chosen.store)
    run = store.run(chosen.run)
    plan = store.plan(run.id)
    rows = store.rows(plan)
    write_bytes(chosen.out, forms[chosen.out.suffix](run, plan, rows).encode())
    print(f"{len(rows)} rows -> {chosen.out}")
    return 0
