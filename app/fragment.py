"""A part of a page that draws itself again: its errors stay in it, and no click below is lost."""

from collections.abc import Callable

import streamlit as st

from sparsity_core.errors import SparsityError


def redraw(draw: Callable[[], bool | None], every: float | None) -> None:
    """Draw now and then every so many seconds, or only when something in it is used.

    When `draw` answers True the whole page is drawn once more, but by the next look if there is
    one: a run of the page that starts over forgets which button had been pressed. An error of ours
    is one line in this part, as on a page: Streamlit would show where in the code it happened.
    """
    first = True

    @st.fragment(run_every=every)
    def part() -> None:
        try:
            changed = draw()
        except SparsityError as error:
            st.error(str(error))
            return
        if changed and not (first and every):
            st.rerun()

    part()
    first = False
