"""Uploads, looked at in a separate process with limits on memory and time.

That process reads what the browser sent, writes it anew as plain safetensors and npz, and opens the
model once. Only what it wrote is read by anybody else. Started by `admit`, not by hand:
`python -m sparsity_core.quarantine JOB`, JOB being a file of JSON.
"""

import json
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsity_core.apart import run_apart
from sparsity_core.errors import SparsityError
from sparsity_core.intake.how import How, reference_of
from sparsity_core.intake.uploaded import forget, new_token, uploads_folder

LARGEST = 200 << 20  # bytes of an upload; the server's own limit is the same
_MEMORY = 8 << 30  # bytes of addresses, of which torch alone takes some
_SECONDS = 120
_RELATED = (
    "save the weights as safetensors: "
    "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"
)
_EXPORT = "export the model: torch.onnx.export(model, inputs, 'model.onnx', dynamo=True)"
_REFUSED = {
    **dict.fromkeys(
        (".pt", ".pth", ".th", ".bin", ".ckpt", ".pkl", ".pickle", ".joblib"),
        f"may be a pickle, which is a program, and is not opened here; {_RELATED}, or {_EXPORT}",
    ),
    ".pt2": f"is a program of torch.export and is not opened here; {_EXPORT}",
    ".h5": f"is of Keras; {_EXPORT.split(':')[0]} to ONNX with tf2onnx",
    ".keras": "is of Keras; export the model to ONNX with tf2onnx",
}


@dataclass(frozen=True)
class Admitted:
    """An upload that can be opened: `load_task(reference)`."""

    reference: str  # upload:TOKEN
    label: str
    notes: tuple[str, ...]


def refusal(name: str, size: int, kinds: tuple[str, ...] = (".safetensors", ".onnx")) -> str:
    """Why a file is not even looked at, going by name and size; "" when it is."""
    suffix = Path(name).suffix.lower()
    if suffix in _REFUSED:
        return f"{shown(name)} {_REFUSED[suffix]}"
    if suffix not in kinds:
        return f"{shown(name)} is none of {', '.join(kinds)}; {_RELATED}, or {_EXPORT}"
    if not 0 < size <= LARGEST:
        return (
            f"{shown(name)} has {size:,} bytes, and {LARGEST:,} at most are taken through the "
            "browser; open it with the command: sparsity sweep onnx:FILE, or --weights FILE"
        )
    return ""


def shown(name: str) -> str:
    """A stranger's file name as it may stand on screen: its last part, printable and short."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return "".join(c if c.isprintable() and c not in "<>&`[]*_$" else "?" for c in last)[:80] or "?"


def admit(
    name: str, content: bytes, *, model: str = "", data: str = "", arrays: bytes | None = None
) -> Admitted:
    """Look at an upload apart, and keep it when it can be opened.

    Safetensors need `model`, the listed one whose weights they are. ONNX needs `data`, a name of
    `load_data`, or `arrays`, an npz of x and perhaps y. Raises SparsityError, and keeps nothing,
    when it cannot be opened within the limits.
    """
    if why := refusal(name, len(content)) or (arrays and refusal("x.npz", len(arrays), (".npz",))):
        raise SparsityError(str(why))
    token, folder = new_token(), uploads_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        given = folder / f"{token}.given"
        given.write_bytes(content)
        if arrays is not None:
            (folder / f"{token}.given-arrays").write_bytes(arrays)
        job = {
            "token": token, "kind": Path(name).suffix.lower(), "model": model, "data": data,
            "label": shown(name),
        }  # fmt: skip
        notes = _apart(folder / f"{token}.job", job)
    except OSError as error:
        forget(token)
        raise SparsityError(f"the upload could not be kept ({error.strerror})") from error
    except BaseException:
        forget(token)
        raise
    for left in ("given", "given-arrays", "job"):
        (folder / f"{token}.{left}").unlink(missing_ok=True)
    return Admitted(f"upload:{token}", shown(name), tuple(notes))


def _apart(path: Path, job: dict[str, str]) -> list[str]:
    """What the separate process says; SparsityError when it refuses, dies or takes too long."""
    path.write_text(json.dumps(job))
    limits = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
    try:
        ended = run_apart(
            "sparsity_core.quarantine", str(path), _SECONDS, limits, subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise SparsityError(
            f"the upload could not be opened within {_SECONDS} s; try a smaller model, or the "
            "command, which has no such limit"
        ) from None
    try:
        answer: dict[str, Any] = json.loads(ended.said)
    except ValueError:
        raise SparsityError(
            f"the upload could not be opened within {_MEMORY >> 30} GiB of memory and {_SECONDS} s "
            "(its process died); the command has no such limits"
        ) from None
    if "refused" in answer:
        raise SparsityError(answer["refused"])
    notes: list[str] = answer["notes"]
    return notes


def main() -> None:
    """The separate process."""
    path = Path(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    job = json.loads(path.read_text())
    try:
        notes = _open(job, path.parent)
        answer: dict[str, Any] = {"notes": [_in_their_words(note, job) for note in notes]}
    except SparsityError as error:
        answer = {"refused": _in_their_words(str(error), job)}
    except MemoryError:
        answer = {"refused": f"opening it takes more than {_MEMORY >> 30} GiB of memory"}
    except Exception as error:  # noqa: BLE001 - it is a stranger's file
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        answer = {"refused": f"it could not be opened ({said})"}
    print(json.dumps(answer))


def _open(job: dict[str, str], folder: Path) -> list[str]:
    from sparsity_core.task import load_task

    token = job["token"]
    given, clean = folder / f"{token}.given", folder / f"{token}.safetensors"
    notes: list[str] = []
    data = job["data"]
    if (arrays := folder / f"{token}.given-arrays").is_file():
        data = f"{folder / token}.npz"
        _rewrite_arrays(arrays, Path(data))
    if job["kind"] == ".safetensors":
        _rewrite_weights(given, clean)
        reference = reference_of(job["model"], How(weights=str(clean)))
    else:
        notes = _rewrite_graph(given, clean, data)
        reference = reference_of(f"onnx:{clean}", How(data=data))
    task = load_task(reference)
    (folder / f"{token}.json").write_text(
        json.dumps({"reference": reference, "label": job["label"]})
    )
    return [*notes, *task.notes]


def _in_their_words(text: str, job: dict[str, str]) -> str:
    """The file by the name that it was uploaded under: ours says nothing to them."""
    start = f"{uploads_folder() / job['token']}"
    for name in (f"{start}.given-arrays", f"{start}.npz"):
        text = text.replace(name, "the data")
    for suffix in (".given", ".safetensors"):
        text = text.replace(f"{start}{suffix}", job["label"])
        text = text.replace(f"{job['token']}{suffix}", job["label"])
    return text


def _rewrite_weights(given: Path, clean: Path) -> None:
    """Safetensors read and written anew; NaN, infinity and strange names are refused."""
    import torch
    from safetensors.torch import save_file

    from sparsity_core.intake.checkpoint import open_checkpoint
    from sparsity_core.intake.kind import kind_of

    if kind_of(given, f"{_RELATED}, or {_EXPORT}") != "safetensors":
        raise SparsityError(f"this is no safetensors file, whatever its name says; {_RELATED}")
    (named,) = open_checkpoint(given).sets.values()
    for name, tensor in named.items():
        assert isinstance(tensor, torch.Tensor)  # safetensors are read at once
        if not name.isprintable() or "/" in name or "\\" in name or not 0 < len(name) <= 300:
            raise SparsityError(f"{name[:60]!r} is no name of a parameter; save the model again")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor.float()).all()):
            raise SparsityError(f"{name} holds NaN or infinity; these are no trained weights")
    save_file({n: t.contiguous() for n, t in named.items()}, clean)  # type: ignore[union-attr]


def _rewrite_graph(given: Path, clean: Path, data: str) -> list[str]:
    """ONNX read, compared with onnxruntime on the data, and written as plain data."""
    from sparsity_core.intake.onnx_file import read_onnx
    from sparsity_core.intake.onnx_module import agreement, module_of
    from sparsity_core.intake.onnx_plain import save_graph
    from sparsity_core.intake.samples import read_samples

    graph = read_onnx(given)
    samples = read_samples(data)
    inputs = samples.splits["validation"][0][:4]
    said = agreement(module_of(graph), given, inputs, samples.packing)
    save_graph(graph, clean)
    return [said]


def _rewrite_arrays(given: Path, clean: Path) -> None:
    import numpy as np

    from sparsity_core.data.arrays import read_npz

    np.savez(clean, **read_npz(given))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
