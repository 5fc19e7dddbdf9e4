"""`sparsity prune` and `sparsity check`: carry a recipe out, take the result away or judge it."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sparsity_core.cli.own import add_own, reference, tell

if TYPE_CHECKING:
    from sparsity_core.export.pruned import Pruned
    from sparsity_core.recipe import Recipe


def add_prune(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The subcommand `prune`."""
    prune = commands.add_parser(
        "prune", help="prune a model by a recipe and write what is left, with a card"
    )
    _add_how(prune)
    prune.add_argument("--out", type=Path, required=True, metavar="DIR")
    prune.add_argument(
        "--layout", default="dense", help="of the checkpoint: dense, bitmask, csr or smallest"
    )
    prune.add_argument("--shrink", action="store_true", help="also without its idle channels")
    prune.add_argument("--onnx", action="store_true", help="also as ONNX, shrunk too if asked")
    _add_speed(prune, batch=64)
    prune.set_defaults(action=_prune)


def add_check(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The subcommand `check`."""
    check = commands.add_parser(
        "check", help="exit with 0 when a pruned model is as good and as fast as asked, else 1"
    )
    _add_how(check)
    check.add_argument(
        "--max-drop", type=float, metavar="D", help="points of accuracy, or another metric's number"
    )
    check.add_argument(
        "--confident", action="store_true", help="the drop's whole 95 %% interval has to fit"
    )
    check.add_argument("--min-speedup", type=float, metavar="TIMES", help="over the dense model")
    _add_speed(check, batch=1)
    check.set_defaults(action=_check)


def _add_how(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="MODEL", help="see `sparsity models`; or your own")
    add_own(command, timed=False)
    command.add_argument(
        "--recipe", type=Path, metavar="FILE", help="YAML; without one magnitude, at --sparsity"
    )
    command.add_argument("--sparsity", type=float, metavar="S", help="instead of the recipe's")
    command.add_argument("--finetune-epochs", type=int, help="instead of the recipe's training")
    command.add_argument("--rate", type=float, default=0.01, help="learning rate of fine-tuning")
    command.add_argument("--split", default="test", help="that is measured; default: test")
    command.add_argument("--score-samples", type=int, default=512, help="of train")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--device", default="auto", help="auto, cpu or cuda")


def _add_speed(command: argparse.ArgumentParser, batch: int) -> None:
    command.add_argument("--batch", type=int, default=batch, help=f"of timing; default {batch}")
    command.add_argument("--threads", type=int, default=1, help="of timing; default 1")


def _prune(chosen: argparse.Namespace) -> int:
    from sparsity_core.errors import unknown
    from sparsity_core.export.package import Wanted, check_folder, write_package
    from sparsity_core.export.sparse_file import LAYOUTS
    from sparsity_core.units import unit_of

    if chosen.layout not in LAYOUTS:
        raise unknown("layout", chosen.layout, LAYOUTS)
    recipe = _recipe(chosen)
    check_folder(chosen.out)
    wanted = Wanted(chosen.layout, chosen.shrink, chosen.onnx, chosen.batch, chosen.threads)
    with _carried_out(chosen, recipe) as pruned:
        card = write_package(pruned, chosen.out, wanted)
    found, unit = pruned.comparison, unit_of(card["metric"])
    print(
        f"{card['model']}: {card['metric']} {unit.said(found.value)} "
        f"({unit.said(found.dense_value)} dense), drop {unit.change(found.drop)}, "
        f"{unit.interval(found.drop_low, found.drop_high)}, {found.samples:,} {card['split']} "
        "samples"
    )
    print(
        f"{card['pruned']['not_zero']:,} of {card['dense']['parameters']:,} parameters are not zero"
    )
    if "shrunk" in card:
        shrunk = card["shrunk"]
        print(
            f"shrunk: {shrunk['parameters']:,} parameters, {shrunk['multiply_adds']:,} of "
            f"{card['dense']['multiply_adds']:,} multiply-adds, {shrunk['speedup']:.2f}x dense "
            f"(batch {shrunk['batch']}, {shrunk['threads']} thread)"
        )
        for name, why in shrunk["kept"].items():
            print(f"  {name}: {why}", file=sys.stderr)
    for name, reason in pruned.skipped.items():
        print(f"{name} stays dense: {reason}", file=sys.stderr)
    for name, size in card["files"].items():
        print(f"{size:>12,} bytes  {chosen.out / name}")
    return 0


def _check(chosen: argparse.Namespace) -> int:
    from sparsity_core.check import Requirements, check

    asked = Requirements(
        chosen.max_drop, chosen.min_speedup, chosen.confident, chosen.batch, chosen.threads
    )
    with _carried_out(chosen, _recipe(chosen)) as pruned:
        findings = check(pruned, asked)
    for finding in findings:
        verdict = "ok  " if finding.met else "FAIL"
        print(f"{verdict} {finding.what}: {finding.asked}; measured {finding.measured}")
    return 0 if all(finding.met for finding in findings) else 1


def _recipe(chosen: argparse.Namespace) -> "Recipe":
    """The recipe of the file, or of a sparsity alone, with what the options change."""
    from dataclasses import replace

    from sparsity_core.recipe import Recipe, Training

    recipe = _read(chosen.recipe) if chosen.recipe or chosen.sparsity is None else Recipe(0)
    if chosen.sparsity is not None:
        recipe = recipe.at(chosen.sparsity)
    if chosen.finetune_epochs is not None:
        tuning = Training(epochs=chosen.finetune_epochs, rate=chosen.rate)
        recipe = replace(recipe, training=tuning if tuning.epochs else None)
    return recipe


def _read(path: Path | None) -> "Recipe":
    from sparsity_core.errors import SparsityError
    from sparsity_core.recipe import Recipe

    if path is None:
        raise SparsityError("give --recipe FILE, or --sparsity S for magnitude at that sparsity")
    try:
        return Recipe.from_yaml(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is no text"
        raise SparsityError(f"--recipe {path}: {reason}") from error


@contextmanager
def _carried_out(chosen: argparse.Namespace, recipe: "Recipe") -> "Iterator[Pruned]":
    """The pruned model; a process that is killed before the end goes on when it is asked again."""
    from sparsity_core.checkpoint import UnderWay
    from sparsity_core.export.pruned import carry_out
    from sparsity_core.machine import resolve_device
    from sparsity_core.rounds import name_of
    from sparsity_core.task import load_task

    task = load_task(reference(chosen))
    tell(task.notes)
    how = {
        "seed": chosen.seed,
        "score_samples": chosen.score_samples,
        "device": resolve_device(chosen.device),
    }
    under_way = UnderWay(name_of(task, recipe, **how))
    yield carry_out(task, recipe, split=chosen.split, under_way=under_way, **how)
    under_way.delete()
