"""What an export has made: before and after, the files, what stays and why, how to use it."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from app import export
from app.curve_names import label
from app.theme import GREY, PALETTE
from sparsity_core.recipe import Recipe
from sparsity_core.units import unit_of

_WHAT = {
    "model.safetensors": "Checkpoint: the same keys, pruned",
    "masks.safetensors": "Masks, one bit a weight",
    "recipe.yaml": "Recipe",
    "shrunk.safetensors": "Shrunk model",
    "model.onnx": "ONNX of the pruned model",
    "shrunk.onnx": "ONNX of the shrunk model",
    "card.json": "Card: everything that was measured",
}


def draw_export(card: Mapping[str, Any], folder: Path | None, command: str) -> None:
    """Everything of one export; without a folder (a shipped example) there is nothing to load."""
    _draw_worth(card)
    if folder is not None:
        st.subheader("Files")
        draw_files(folder)
    table = before_and_after(card)
    export.show(
        _chart(table), table, f"export-{card['model']}", command=command, key="export-chart"
    )
    st.caption(_caption(card))
    st.dataframe(_shown(table), hide_index=True, placeholder="")
    _draw_kept(card)
    _draw_use(card)


def before_and_after(card: Mapping[str, Any]) -> pd.DataFrame:
    """One row a measure: dense, pruned, shrunk, and shares of dense; None = not measured."""
    shrunk = card.get("shrunk", {})
    seconds = shrunk.get("seconds", {})
    dense, pruned = card["dense"], card["pruned"]
    left = pruned["multiply_adds_by_weights_not_zero"]
    rows = [
        ("parameters", dense["parameters"], pruned["not_zero"], shrunk.get("parameters")),
        ("multiply-adds a sample", dense["multiply_adds"], left, shrunk.get("multiply_adds")),
        (
            "bytes of the checkpoint",
            dense["bytes"],
            card["files"].get("model.safetensors"),
            card["files"].get("shrunk.safetensors"),
        ),
        ("milliseconds a batch", *(_ms(seconds, name) for name in ("dense", "pruned", "shrunk"))),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["measure", "dense", "pruned", "shrunk"])
    for name in ("pruned", "shrunk"):
        table[f"{name}_share"] = table[name].astype(float) / table["dense"].astype(float)
    return table.dropna(subset=["dense"])


def _ms(seconds: Mapping[str, Any], name: str) -> float | None:
    return 1e3 * seconds[name]["p50"] if name in seconds else None


def _draw_worth(card: Mapping[str, Any]) -> None:
    columns = st.columns(4)
    unit, change = unit_of(card["metric"]), card["value"] - card["dense_value"]
    columns[0].metric(
        card["metric"].capitalize(), unit.said(card["value"]), unit.change(change),
        delta_color="inverse" if change * card["drop"] > 0 else "normal",
    )  # fmt: skip
    columns[1].metric("Weights zero", f"{card['pruned']['sparsity']:.1%}")
    if shrunk := card.get("shrunk"):
        share = shrunk["parameters"] / card["dense"]["parameters"]
        columns[2].metric(
            "Parameters, shrunk", f"{shrunk['parameters']:,}", f"{share - 1:+.0%}",
            delta_color="inverse",
        )  # fmt: skip
        columns[3].metric("Speed, shrunk", f"{shrunk['speedup']:.2f}x dense")
    recipe = Recipe.from_dict(card["recipe"])
    epochs = recipe.training.epochs if recipe.training else 0
    st.caption(
        f"{label(recipe)}, {recipe.sparsity:.0%}, {epochs} epochs of fine-tuning. "
        f"{card['metric'].capitalize()} on {card['samples']:,} {card['split']} samples "
        f"({unit.said(card['dense_value'])} dense; of the drop, where + is worse, "
        f"{unit.interval(card['drop_low'], card['drop_high'])})."
    )


def draw_files(folder: Path) -> None:
    """A button for each file of an export."""
    names = [name for name in _WHAT if (folder / name).is_file()]
    columns = st.columns(2)
    for i, name in enumerate(names):
        size = (folder / name).stat().st_size
        columns[i % 2].download_button(
            f"{_WHAT[name]} ({size_of(size)})", partial(_read, folder / name), name,
            on_click="ignore", key=f"take {name}", icon=":material/download:", width="stretch",
        )  # fmt: skip


def _read(path: Path) -> bytes:
    return path.read_bytes()


def size_of(count: int) -> str:
    """Bytes as a person says them."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def _chart(table: pd.DataFrame) -> alt.LayerChart:
    long = table.melt("measure", ["pruned_share", "shrunk_share"], "model", "share").dropna()
    long["model"] = long["model"].str.removesuffix("_share")
    order = [f"{m}, {model}" for m in table["measure"] for model in ("pruned", "shrunk")]
    long["what"] = long["measure"] + ", " + long["model"]
    base = alt.Chart(long).encode(
        y=alt.Y("what:N", title=None, sort=order, axis=alt.Axis(labelLimit=220)),
        x=alt.X(
            "share:Q",
            title="share of the dense model",
            axis=alt.Axis(format="%"),
            scale=alt.Scale(domainMin=0, domainMax=max(1.0, float(long["share"].max()))),
        ),
    )
    colours = alt.Scale(domain=["pruned", "shrunk"], range=list(PALETTE[:2]))
    bars = base.mark_bar().encode(
        color=alt.Color("model:N", scale=colours, legend=None),
        tooltip=["measure:N", "model:N", alt.Tooltip("share:Q", format=".1%")],
    )
    texts = base.mark_text(align="left", dx=4, color=GREY).encode(
        text=alt.Text("share:Q", format=".1%")
    )
    return (bars + texts).properties(height=alt.Step(24))


def _caption(card: Mapping[str, Any]) -> str:
    shrunk = card.get("shrunk")
    notes = ["Pruned: weights that are not zero, and multiply-adds by them; a count, not a speed."]
    if shrunk:
        cpu = card["device"].split(",")[0].replace("(", "")
        notes.append(
            f"Time: median of forward passes in turns, batch {shrunk['batch']}, "
            f"{shrunk['threads']} thread of {cpu}. {_difference(shrunk['largest_difference'])}"
        )
    return " ".join(notes)


def _difference(largest: float) -> str:
    if not largest:
        return "The shrunk model's outputs are the same to the last bit."
    return f"The shrunk model's outputs differ by {largest:.2g} at most."


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    shown = table[["measure", "dense", "pruned", "shrunk"]].copy()
    for name in ("dense", "pruned", "shrunk"):
        shown[name] = [
            "" if pd.isna(v) else f"{v:,.3f}" if m.startswith("milli") else f"{int(v):,}"
            for v, m in zip(table[name], table["measure"], strict=True)
        ]
    return shown.loc[:, (shown != "").any()]  # nothing was shrunk: no column for it


def _draw_kept(card: Mapping[str, Any]) -> None:
    kept = card.get("shrunk", {}).get("kept", {})
    stays = {f"{name} stays dense": why for name, why in card["skipped"].items()}
    lines = [f"- `{name}`: {why}" for name, why in (kept | stays).items()]
    if lines:
        with st.expander(f"What stays, and why ({len(lines)})"):
            st.markdown("\n".join(lines))


def _draw_use(card: Mapping[str, Any]) -> None:
    with st.expander("How to use the files"):
        st.code(
            f"""from pathlib import Path

from sparsity_core.compress.resize import resize_
from sparsity_core.export.sparse_file import read_sparse
from sparsity_core.task import load_task

model = load_task({card["model"]!r}).model
state, settings = read_sparse(Path("shrunk.safetensors"))  # or model.safetensors
resize_(model, state, settings)""",
            "python",
        )
        st.caption("In CI: exits with 0 when the drop and the speed are as asked, else with 1.")
        st.code(
            f"sparsity check {card['model']} --recipe recipe.yaml --max-drop 1.0 --min-speedup 1.5",
            "bash",
        )
