"""Text as windows of tokens, for language models: inputs, and the same moved on by one."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from sparsity_core.errors import SparsityError
from sparsity_core.intake.how import How

_LENGTH = 128  # tokens in a window, unless an input size says otherwise
_LARGEST = 256 << 20  # bytes
_LIMIT = 4096  # windows


def windows(path: Path, how: How) -> tuple[Any, tuple[str, ...], tuple[str, ...]]:
    """((N, T) tokens, (N, T) next tokens) without overlap, in the order of the text.

    Tokens are bytes, `chars` (numbered in the order of their code, as nanoGPT does), or what
    `module:function` makes of the text, which runs code.
    """
    if path.stat().st_size > _LARGEST:
        raise SparsityError(f"{path}: more than {_LARGEST} bytes; use a part of it")
    tokens = _tokens(path, how.tokenizer or "bytes")
    length = how.input_size[-1] if how.input_size else _LENGTH
    count = (len(tokens) - 1) // length
    if count < 1:
        raise SparsityError(f"{path}: {len(tokens)} tokens are less than one window of {length}")
    inputs = tokens[: count * length].reshape(count, length)
    targets = tokens[1 : count * length + 1].reshape(count, length)
    limit = how.limit or _LIMIT
    chosen = np.linspace(0, count - 1, min(count, limit)).astype(int)
    note = f"{len(chosen):,} of {count:,} windows of {length} {how.tokenizer or 'bytes'}"
    return (inputs[chosen], targets[chosen]), (), (note,)


def _tokens(path: Path, tokenizer: str) -> np.ndarray:
    if tokenizer == "bytes":
        return np.frombuffer(path.read_bytes(), np.uint8).astype(np.int64)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SparsityError(f"{path}: not a text in UTF-8 ({error})") from error
    if tokenizer == "chars":
        number = {char: i for i, char in enumerate(sorted(set(text)))}
        return np.array([number[char] for char in text], np.int64)
    module_name, _, attribute = tokenizer.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), attribute)(text)
        return np.asarray(found, np.int64)
    except Exception as error:  # it is anybody's code
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        raise SparsityError(
            f"tokenizer {tokenizer}: failed ({said}); choose bytes, chars or module:function, a "
            "function from text to whole numbers"
        ) from error
