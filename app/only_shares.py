"""Pages that train classifiers and draw per cent, where the model's metric is no share."""

from collections.abc import Callable

import streamlit as st

from app import cache
from sparsity_core.metrics import is_share


def stop_unless_share(model: str, command: str, draw_example: Callable[[], object]) -> None:
    """Say why the page has nothing for this model, show the finished example, and stop."""
    metric = cache.task(model).metric.name
    if is_share(metric):
        return
    st.info(
        f"This page trains classifiers and draws shares of right answers; {metric} is no share. "
        f"`{command} MODEL` measures it in its own number."
    )
    draw_example()
    st.stop()
