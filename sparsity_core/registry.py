"""The named choices of one stage: `kind + options <-> object`, listed in one place."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, Generic, TypeVar

from sparsity_core.digest import digest_of
from sparsity_core.errors import SparsityError, unknown

Choice = TypeVar("Choice")
Options = dict[str, Any]


@dataclass(frozen=True)
class Shorthand:
    """A short text for a choice with options, such as `2:4` for n:m."""

    pattern: str  # a regular expression whose groups are named like integer options
    text: str  # a format string over the options, what `label` shows


class Registry(Generic[Choice]):
    """Frozen dataclasses by kind; `make` builds one, `to_dict` and `from_dict` carry it as data."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self._classes: dict[str, type[Choice]] = {}
        self._shorthands: dict[str, Shorthand] = {}

    def register(
        self, kind: str, shorthand: Shorthand | None = None
    ) -> Callable[[type[Choice]], type[Choice]]:
        """A class decorator that lists a frozen dataclass under `kind`."""

        def add(cls: type[Choice]) -> type[Choice]:
            if kind in self._classes:
                raise ValueError(f"{self.stage} {kind!r} is registered twice")
            self._classes[kind] = cls
            if shorthand:
                self._shorthands[kind] = shorthand
            return cls

        return add

    def kinds(self) -> list[str]:
        """The names of all choices, in the order they were registered."""
        return list(self._classes)

    def make(self, text: str, **options: Any) -> Choice:
        """The choice named by a kind or a shorthand; an unknown name says what is known."""
        if text in self._classes:
            return self._build(text, options)
        for kind, shorthand in self._shorthands.items():
            if match := re.fullmatch(shorthand.pattern, text):
                found = {name: int(value) for name, value in match.groupdict().items()}
                return self._build(kind, found | options)
        raise unknown(self.stage, text, self._classes)

    def kind_of(self, choice: Choice) -> str:
        """The name under which a choice's class is listed."""
        for kind, cls in self._classes.items():
            if type(choice) is cls:
                return kind
        raise SparsityError(f"{choice!r} is not a registered {self.stage}")

    def options_of(self, kind: str) -> Options:
        """The options of a kind with their defaults."""
        return {
            field.name: None if field.default is MISSING else field.default
            for field in fields(self._class(kind))  # type: ignore[arg-type]
        }

    def describe(self, kind: str) -> str:
        """The docstring of a kind: what it does, its formula, its source."""
        return (self._class(kind).__doc__ or "").strip()

    def label(self, choice: Choice) -> str:
        """The shortest text from which `make` builds an equal choice, where there is one.

        An option that holds a value for each layer is named by its digest.
        """
        kind = self.kind_of(choice)
        options = self.to_dict(choice)
        del options["kind"]
        if kind in self._shorthands:
            return self._shorthands[kind].text.format(**options)
        changed = {k: v for k, v in options.items() if v != self.options_of(kind)[k]}
        if not changed:
            return kind
        return f"{kind}({', '.join(f'{k}{_brief(v)}' for k, v in changed.items())})"

    def to_dict(self, choice: Choice) -> Options:
        """The choice as plain data: `{"kind": ..., option: value, ...}`."""
        kind = self.kind_of(choice)
        return {"kind": kind} | {
            field.name: getattr(choice, field.name)
            for field in fields(choice)  # type: ignore[arg-type]
        }

    def identity(self, choice: Choice) -> Options:
        """What digests are made of: the kind and the options that are not at their default.

        So a new option does not rename the results that were stored before there was one.
        """
        usual = self.options_of(self.kind_of(choice))
        options = self.to_dict(choice).items()
        return {k: v for k, v in options if k == "kind" or v != usual[k]}

    def from_dict(self, data: Mapping[str, Any] | str) -> Choice:
        """The choice that `to_dict` described; a plain text is taken as for `make`."""
        if isinstance(data, str):
            return self.make(data)
        options = dict(data)
        kind = options.pop("kind", None)
        if not isinstance(kind, str):
            raise SparsityError(f"{self.stage}: {dict(data)!r} names no kind; add kind: ...")
        return self.make(kind, **options)

    def __iter__(self) -> Iterator[str]:
        return iter(self._classes)

    def _class(self, kind: str) -> type[Choice]:
        if kind not in self._classes:
            raise unknown(self.stage, kind, self._classes)
        return self._classes[kind]

    def _build(self, kind: str, options: Options) -> Choice:
        known = self.options_of(kind)
        for name in options:
            if name not in known:
                raise unknown(f"option of {self.stage} {kind}", name, known)
        return self._class(kind)(**options)


def _brief(value: Any) -> str:
    return f" #{digest_of(value)[:6]}" if isinstance(value, tuple) else f"={value}"
