"""`sparsity runs`: what was computed; show, export, resume, delete."""

import argparse
from datetime import datetime

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sparsity_core.cli.files import check_target, write_rows
from sparsity_core.cli.lists import whole
from sparsity_core.cli.measure import execute
from sparsity_core.cli.table import print_rows
from sparsity_core.errors import SparsityError
from sparsity_core.store import Store


def runs(chosen: argparse.Namespace) -> int:
    """List all runs, or act on one."""
    store = Store(chosen.store)
    if chosen.run is None:
        if chosen.resume or chosen.delete or chosen.out:
            raise SparsityError("which run? give its id, as `sparsity runs` lists it")
        return _list(store)
    info = store.run(chosen.run)
    if chosen.delete:
        gone = store.delete_run(info.id)
        print(f"deleted run {info.id} and {gone} points that no other run has")
        return 0
    check_target(chosen.out)
    plan = store.plan(info.id)
    if chosen.resume:
        return execute(plan, None, chosen)
    rows = store.rows(plan)
    print_rows(plan.kind, rows)
    if chosen.out:
        write_rows(rows, chosen.out)
    return 0


def _list(store: Store) -> int:
    table = Table(*whole("id", "when", "state", "points"), "what", box=None)
    for info in store.runs():
        table.add_row(
            info.id[:8],
            datetime.fromtimestamp(info.created).strftime("%Y-%m-%d %H:%M"),
            info.state,
            f"{info.done} of {info.total}",
            escape(info.title + (f" ({info.message})" if info.message else "")),
        )
    Console().print(table if table.row_count else "no runs yet; try `sparsity sweep digits-lenet`")
    return 0
