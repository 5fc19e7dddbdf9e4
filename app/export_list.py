"""The exports of this store on the Runs page: under way, finished, to be taken or deleted."""

from collections.abc import Sequence
from datetime import datetime

import pandas as pd
import streamlit as st

from app import cache, uploads
from app.curve_names import label
from app.export_job import Made, Order, jobs
from app.export_view import draw_files, size_of
from app.live import duration
from sparsity_core.recipe import Recipe
from sparsity_core.units import unit_of


def draw_exports() -> None:
    """A line for each that is under way, and the finished ones of the models that this tab knows.

    Others are another tab's uploads, whose weights are nobody else's.
    """
    known = cache.models()
    running = [order for order in jobs().under_way() if order.model in known]
    made = [each for each in jobs().made() if each.card["model"] in known]
    if running or made:
        st.subheader("Exports")
        _draw_running(running)
        _draw_made(made)


def _draw_running(orders: Sequence[Order]) -> None:
    for order in orders:
        left, right = st.columns([5, 1], vertical_alignment="center")
        left.info(
            f"Under way for {duration(jobs().state(order).seconds)}: "
            f"{uploads.label_of(order.model)}, {label(order.recipe)}, {order.recipe.sparsity:.0%}"
        )
        key = f"cancel export {order.folder.name}"
        right.button("Cancel", key=key, on_click=jobs().cancel, args=[order])


def _draw_made(made: Sequence[Made]) -> None:
    if not made:
        return
    event = st.dataframe(
        pd.DataFrame([_line(each) for each in made]), hide_index=True, on_select="rerun",
        selection_mode="single-row", key=f"exports {hash(tuple(each.folder for each in made))}",
    )  # fmt: skip
    rows = event["selection"]["rows"]
    st.caption(f"{len(made)} finished. Tick one to take its files, or to delete it.")
    if rows:
        chosen = made[rows[0]]
        draw_files(chosen.folder)
        _draw_delete(chosen)


def _line(made: Made) -> dict[str, str]:
    card = made.card
    recipe, unit = Recipe.from_dict(card["recipe"]), unit_of(card["metric"])
    return {
        "model": uploads.label_of(card["model"]),
        "recipe": f"{label(recipe)}, {recipe.sparsity:.0%}",
        "worth": f"{card['metric']} {unit.said(card['value'])}, drop {unit.change(card['drop'])}",
        "when": datetime.fromtimestamp(made.when).strftime("%Y-%m-%d %H:%M"),
        "size": size_of(made.size),
    }


def _draw_delete(made: Made) -> None:
    name = made.folder.name[:8]
    with st.expander("Delete these files", icon=":material/delete:"):
        sure = st.toggle(f"I want to delete {size_of(made.size)} for good", key=f"sure {name}")
        st.button(
            "Delete", type="primary", disabled=not sure, key=f"delete export {name}",
            icon=":material/delete:", on_click=jobs().delete, args=[made],
        )  # fmt: skip
