"""A part of a page that draws itself again: what goes wrong in it, and what it leaves alone."""

from streamlit.testing.v1 import AppTest


def test_an_error_of_ours_is_one_line_and_the_page_goes_on():
    def script():
        import streamlit as st

        from app.fragment import redraw
        from sparsity_core.errors import SparsityError

        def draw():
            raise SparsityError("the disk is full; free space")

        redraw(draw, 1.0)
        st.write("below")

    app = AppTest.from_function(script, default_timeout=60).run()
    assert not app.exception
    assert [error.value for error in app.error] == ["the disk is full; free space"]
    assert [text.value for text in app.markdown] == ["below"]


def test_a_click_below_a_part_that_has_changed_is_not_lost():
    def script():
        import streamlit as st

        from app.fragment import redraw

        # Changed each time that the button was pressed, as a job that has just ended.
        state = st.session_state
        redraw(lambda: state.pop("ended", False), 1.0)
        if st.button("press"):
            st.write("pressed")

    app = AppTest.from_function(script, default_timeout=60).run()
    app.session_state["ended"] = True
    app.button[0].click().run()
    assert [text.value for text in app.markdown] == ["pressed"]


def test_a_part_without_a_next_look_has_the_page_drawn_at_once():
    def script():
        import streamlit as st

        from app.fragment import redraw

        state = st.session_state
        state["runs"] = state.get("runs", 0) + 1
        redraw(lambda: state["runs"] == 1, None)

    app = AppTest.from_function(script, default_timeout=60).run()
    assert app.session_state["runs"] == 2


def test_what_takes_long_to_draw_is_drawn_less_often():
    def script():
        import time
        from types import SimpleNamespace
        from unittest.mock import patch

        import streamlit as st

        from app import live

        def draw():
            started = time.thread_time()
            while time.thread_time() - started < 0.2:
                pass

        looks = st.session_state.setdefault("looks", [])
        with (
            patch.object(live, "_active", lambda: {"job"}),
            patch.object(live, "view_of", lambda _plan: None),
            patch.object(live, "redraw", lambda look, every: looks.append((every, look()))),
        ):
            live.follow(SimpleNamespace(digest="job"), draw)

    app = AppTest.from_function(script, default_timeout=60).run().run()
    (first, slower), (second, again) = app.session_state["looks"]
    assert (first, slower) == (1.0, True)
    assert 2.0 <= second < 3.0
    assert not again
