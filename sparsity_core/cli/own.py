"""What the command can be told of a model of one's own, and the reference that says it all."""

import argparse
import sys
from pathlib import Path

OPTIONS = {
    "weights": ("FILE", ".safetensors, .pt, .pth, .th; nothing in it is executed"),
    "place": ("NAME", "which weights of that file, such as ema"),
    "data": ("PATH", "images, .npz, .csv, .parquet, .txt, IDX, a saved dataset, module:function"),
    "input-size": ("3x224x224", "of one sample; the window's length for text"),
    "mean": ("A,B,C", "of each channel of pixels from 0 to 1"),
    "std": ("A,B,C", "the same"),
    "classes": ("A,B|@FILE", "their names in the order of the model's outputs"),
    "label": ("COLUMN", "which column or array holds the targets"),
    "tokenizer": ("bytes|chars|module:function", "for text"),
    "metric": ("NAME|module:function", "accuracy, top-5, loss, mse, mae, r2, perplexity, "
               "label-accuracy, pixel-accuracy, iou, cosine, agreement, kl"),
    "output": ("NAME", "which of several outputs counts"),
    "limit": ("N", "samples read at most"),
    "expect": ("0.761", "the accuracy on the model's card, to be compared with"),
}  # fmt: skip
_PATHS = ("weights", "data")
_TRAINED = ("weights", "place", "expect")


def add_own(command: argparse.ArgumentParser, timed: bool = True, fresh: bool = False) -> None:
    """Add the options to a subcommand that takes a MODEL.

    `timed` where it runs points; `fresh` where it trains from the start, so that no weights count.
    """
    own = command.add_argument_group(
        "a model of your own",
        "MODEL is then module:factory that returns an nn.Module, timm:NAME, hf:DIRECTORY or "
        "onnx:FILE. Without targets in the data everything is measured against the dense model.",
    )
    if timed:
        own.add_argument(
            "--time-limit",
            type=float,
            metavar="SECONDS",
            help="a point that takes longer fails; needs --workers",
        )
    for name, (form, what) in OPTIONS.items():
        if fresh and name in _TRAINED:
            continue
        own.add_argument(f"--{name}", default="", metavar=form, help=what)


def reference(chosen: argparse.Namespace) -> str:
    """MODEL with everything that was said of it; paths are made whole, for it is stored."""
    from sparsity_core.intake.how import parse, reference_of, with_option

    source, how = parse(chosen.model)
    for name in OPTIONS:
        if text := getattr(chosen, name.replace("-", "_"), ""):
            is_path = name in _PATHS and Path(text).expanduser().exists()
            how = with_option(
                how, name, str(Path(text).expanduser().resolve()) if is_path else text
            )
    kind, _, rest = source.partition(":")
    if kind in ("onnx", "hf"):
        source = f"{kind}:{_whole(rest)}"
    return reference_of(source, how)


def _whole(path: str) -> str:
    """The path from the root, where there is one; anything else as it is."""
    found = Path(path).expanduser()
    return str(found.resolve()) if found.exists() else path


def tell(notes: tuple[str, ...]) -> None:
    """What a person should know of the task, before anything is measured."""
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
