"""Finished examples that ship with this version, where nothing of a plan is measured yet."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st

from sparsity_core.plans import Plan, plan_from_dict, row_from_dict


def say_finished(command: str) -> None:
    """Head what a command made, before it is drawn."""
    st.subheader("A finished example")
    st.caption(f"`{command}` made this one, which ships with this version; yours takes its place.")


def draw_finished(shipped: Mapping[str, Any], draw: Callable[[Any, Sequence[Any]], None]) -> None:
    """An example's plan and rows, as a page draws its own."""
    say_finished(shipped["command"])
    plan: Plan = plan_from_dict(shipped["plan"])
    draw(plan, [row_from_dict(plan.kind, row) for row in shipped["rows"]])
