"""The entries of the registries to read: what each does, its formula and its source."""

import inspect
import re
from typing import Any

import streamlit as st

from sparsity_core.registry import Registry
from sparsity_core.scorers import SCORERS

_QUESTIONS = {
    "scorer": "How much does each weight matter?",
    "structure": "Which weights live or die together?",
    "allocation": "How sparse is each layer?",
    "schedule": "In how many rounds?",
    "repair": "What is mended without training?",
    "kernel": "How is the weight stored, and who multiplies with it?",
}


def question(registry: Registry[Any]) -> str:
    """What a stage decides, for a help text, and where its kinds are explained."""
    return f"{_QUESTIONS[registry.stage]} Each is explained under *What these are*."


def about(*registries: Registry[Any], key: str) -> None:
    """A button that opens the full entries of the stages that a form chooses from."""
    with st.popover("What these are", icon=":material/menu_book:", key=f"about {key}"):
        tabs = st.tabs([f"{registry.stage.capitalize()}s" for registry in registries])
        for tab, registry in zip(tabs, registries, strict=True):
            with tab:
                st.markdown("\n\n".join(f"**{k}**  \n{entry(registry, k)}" for k in registry))


def entry(registry: Registry[Any], kind: str) -> str:
    """A kind's docstring as Markdown, its source on a line of its own, papers as links.

    Of a scorer also the memory that it takes.
    """
    text = " ".join(inspect.cleandoc(registry.describe(kind)).split())
    if registry is SCORERS:
        memory = SCORERS.make(kind).memory
        text += f" Memory: {memory:g} times the weights when all layers are scored at once."
    return readable(re.sub(r" (?=Source: |Memory: )", "  \n", text))


def readable(text: str) -> str:
    """Text with formulas as Markdown that shows every sign; papers on arXiv become links.

    What stands between backticks stays as it is.
    """
    parts = text.split("`")
    parts[::2] = [re.sub(r"([\\*_\[\]$~<>#|])", r"\\\1", part) for part in parts[::2]]
    return re.sub(
        r"arXiv (\d{4}\.\d{4,5})", r"[arXiv \1](https://arxiv.org/abs/\1)", "`".join(parts)
    )
