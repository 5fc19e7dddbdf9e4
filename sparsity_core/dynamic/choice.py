"""Rules from what a person types: a kind, numbers that all rules share, and a rule's own."""

from collections.abc import Mapping
from typing import Any

from sparsity_core.dynamic.rule import RULES, UpdateRule
from sparsity_core.errors import SparsityError, unknown

SHARED = ("every", "drop", "until")


def rule_with(text: str, shared: Mapping[str, Any], own: Mapping[str, str]) -> UpdateRule:
    """The rule of a kind or shorthand; of `shared` it takes the options that it has.

    A rule that stands at `until` 1 by its definition takes no other. Raises SparsityError for an
    option of its own that it does not have, or a value that is none.
    """
    kind = RULES.kind_of(RULES.make(text))
    usual = RULES.options_of(kind)
    taken = {name: value for name, value in shared.items() if name in usual}
    if usual.get("until") == 1.0:
        taken.pop("until", None)
    for name, value in own.items():
        if name not in usual:
            raise unknown(f"option of rule {kind}", name, usual)
        taken[name] = _as(value, usual[name], f"{kind}:{name}")
    return RULES.make(text, **taken)


def options_from(text: str) -> dict[str, dict[str, str]]:
    """`a:x=1,a:y=2` as {a: {x: 1, y: 2}}, values still texts. Raises SparsityError for others."""
    found: dict[str, dict[str, str]] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        # From the right: a rule may be called srigl-2:4.
        left, equals, value = part.partition("=")
        rule, colon, name = left.rpartition(":")
        if not (equals and colon and rule and name and value):
            raise SparsityError(f"option {part!r} cannot be read; write RULE:NAME=VALUE")
        found.setdefault(rule.strip(), {})[name.strip()] = value.strip()
    return found


def _as(text: str, usual: Any, what: str) -> Any:
    """A text as what the option usually is; `/` parts the numbers of a list."""
    try:
        if isinstance(usual, bool):
            return {"true": True, "false": False}[text.lower()]
        if isinstance(usual, tuple):
            return tuple(float(part) for part in text.split("/"))
        return type(usual)(text)
    except (ValueError, KeyError) as error:
        raise SparsityError(f"{what}: {text!r} is no {type(usual).__name__}") from error
