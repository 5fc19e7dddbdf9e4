"""How a model of one's own is to be opened, as plain data and as one line of text.

The line is the task's name: a worker process, a stored run and a link open the same model by it.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote

from sparsity_core.errors import SparsityError, unknown


@dataclass(frozen=True)
class How:
    """Everything that is not said by the model itself; what is empty is found or left out."""

    weights: str = ""  # a file of weights
    place: str = ""  # of the weights in that file, such as ema
    data: str = ""  # what `read_samples` takes
    input_size: tuple[int, ...] = ()  # of one sample, channels first; the length for text
    mean: tuple[float, ...] = ()  # of each channel, of values from 0 to 1
    std: tuple[float, ...] = ()
    classes: tuple[str, ...] = ()  # in the order of the model's outputs
    label: str = ""  # the column that holds the targets
    tokenizer: str = ""  # bytes, chars or module:function
    metric: str = ""
    output: str = ""  # which of several outputs counts, by name or number
    limit: int = 0  # samples read at most; 0 = as many as are sensible
    expect: float = 0.0  # the metric on the model's card


def reference_of(source: str, how: How) -> str:
    """`source?key=value&...` with what was said; the source alone when nothing was."""
    said = [
        f"{field.name.replace('_', '-')}={quote(_text(value), safe='/:,.@+-_')}"
        for field in fields(how)
        if (value := getattr(how, field.name)) != field.default
    ]
    return f"{source}?{'&'.join(said)}" if said else source


def parse(reference: str) -> tuple[str, How]:
    """The source and how to open it; raises SparsityError for a key or a value that is none."""
    source, _, query = reference.partition("?")
    how = How()
    for key, text in parse_qsl(query, keep_blank_values=True):
        how = with_option(how, key, text)
    return source, how


def with_option(how: How, key: str, text: str) -> How:
    """The same with one more said, as text: `input-size` and `3x224x224`."""
    name = key.replace("-", "_")
    if name not in _READERS:
        raise unknown("option of a model", key, [k.replace("_", "-") for k in _READERS])
    try:
        return replace(how, **{name: _READERS[name](text)})
    except SparsityError:
        raise
    except ValueError as error:
        raise SparsityError(f"{key} {text!r}: {_EXAMPLES[name]}") from error


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ("x" if all(isinstance(v, int) for v in value) else ",").join(map(str, value))
    return str(value)


def _sizes(text: str) -> tuple[int, ...]:
    sizes = tuple(int(part) for part in text.lower().replace(",", "x").split("x"))
    if min(sizes) < 1:
        raise ValueError(text)
    return sizes


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


def _deviations(text: str) -> tuple[float, ...]:
    found = _numbers(text)
    if min(found) <= 0:
        raise ValueError(text)
    return found


def _names(text: str) -> tuple[str, ...]:
    """Names by commas, or one a line of a text file `@file`."""
    if text.startswith("@"):
        try:
            lines = Path(text[1:]).read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SparsityError(f"classes {text}: cannot be read ({error})") from error
        return tuple(line.strip() for line in lines if line.strip())
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _count(text: str) -> int:
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def _share(text: str) -> float:
    return float(text.removesuffix("%")) / 100 if text.endswith("%") else float(text)


_READERS: dict[str, Callable[[str], Any]] = {field.name: str for field in fields(How)} | {
    "input_size": _sizes,
    "mean": _numbers,
    "std": _deviations,
    "classes": _names,
    "limit": _count,
    "expect": _share,
}
_EXAMPLES = dict.fromkeys(_READERS, "is not understood") | {
    "input_size": "write the sizes of one sample, such as 3x224x224",
    "mean": "write a number for each channel, such as 0.485,0.456,0.406",
    "std": "write a number above zero for each channel, such as 0.229,0.224,0.225",
    "limit": "write how many samples to read at most, 1 or more",
    "expect": "write the metric on the model's card, such as 0.761 or 76.1%",
}
