"""Sparsity Explorer, the app: `streamlit run app/main.py`."""

import sys
from pathlib import Path
from typing import Any

import streamlit as st

# `streamlit run` puts only app/ on the path; the project may be run without being installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

ICON = Path(__file__).parent / "icon.png"
PAGES = (
    ("model", "Model", ":material/hub:"),
    ("sensitivity", "Sensitivity", ":material/show_chart:"),
    ("scorers", "Scorers", ":material/leaderboard:"),
    ("allocation", "Allocation", ":material/equalizer:"),
    ("tradeoff", "Trade-off", ":material/balance:"),
    ("masks", "Masks", ":material/grid_on:"),
    ("tickets", "Lottery ticket", ":material/confirmation_number:"),
    ("moving", "Moving masks", ":material/animation:"),
    ("kernels", "Kernels", ":material/speed:"),
    ("export", "Export", ":material/deployed_code:"),
    ("runs", "Runs", ":material/history:"),
)


def main() -> None:
    """Draw the frame, then the page that was chosen."""
    from app.launch import check_entrance
    from app.state import choose_frame

    st.set_page_config(page_title="Sparsity Explorer", page_icon=str(ICON), layout="wide")
    check_entrance()
    (first, *named), *others = PAGES
    page = st.navigation(
        [
            # Streamlit knows the default page by no name but "/"; the other is it under its own.
            _page(first, *named, default=True, url_path="first"),
            _page(first, *named, visibility="hidden"),
            *(_page(*each) for each in others),
        ],
        expanded=True,
    )
    choose_frame()
    page.run()


def _page(file: str, title: str, icon: str, **options: Any) -> st.Page:
    return st.Page(f"../pages/{file}.py", title=title, icon=icon, **options)


# Spawned worker processes import this file: without the guard each would run the app again.
if __name__ == "__main__":
    main()
