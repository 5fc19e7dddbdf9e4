"""What subcommands that run points share: where they are measured, and where rows go."""

import argparse
from pathlib import Path


def add_measured(command: argparse.ArgumentParser, split: str, about: str) -> None:
    """Split, samples, device, processes, file and store; `split` is the usual one."""
    command.add_argument("--split", default=split, help=about)
    command.add_argument("--samples", type=int, help="of the split; default: all")
    command.add_argument("--device", default="auto", help="auto, cpu or cuda")
    command.add_argument("--workers", type=int, default=0, help="processes; default 0: this one")
    add_out(command)
    add_store(command)


def add_out(command: argparse.ArgumentParser) -> None:
    """The file of rows."""
    command.add_argument("--out", type=Path, metavar="FILE", help=".csv, .parquet or .json")


def add_store(command: argparse.ArgumentParser) -> None:
    """The store of results."""
    command.add_argument(
        "--store", type=Path, metavar="DIR", help="default: $SPARSITY_STORE or the user's folder"
    )
