"""Bring your own model: what may come through the browser, and what to do with the rest."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from app import uploads
from app.launch import ALLOW_CODE, allows_code
from sparsity_core.errors import SparsityError
from sparsity_core.quarantine import LARGEST, refusal

_DATA = ("digits", "mnist", "fashion-mnist", "cifar10")
_OWN = "my own (npz)"
_REFUSED, _ADMITTED = "upload refused", "upload admitted"  # in the session: what to tell
_EVERY = 0.7  # seconds between two looks


def draw_upload(models: Sequence[str]) -> None:
    """The form, what is under way, and this tab's models; `models` are those that are listed."""
    news = any(st.session_state.get(key) for key in (_REFUSED, _ADMITTED))
    with st.expander(
        "Bring your own model",
        icon=":material/upload:",
        expanded=news or uploads.pending() is not None,
    ):
        if uploads.pending():
            _follow()
            return
        kind = st.segmented_control(
            "What", ("ONNX", "Weights of a listed model"), default="ONNX", key="upload kind",
            persist_state="session",  # the form is away while a file is read
        )  # fmt: skip
        if kind == "ONNX":
            _onnx()
        else:
            _weights(models)
        st.caption(
            f"At most {LARGEST >> 20} MB. A separate process with limits on memory and time reads "
            "the file; nothing in it is run. Pickles (`.pt`, `.pth`), `.pt2` and TorchScript are "
            "programs and are not taken here: save safetensors, export ONNX, or use the command "
            "`sparsity sweep my.models:make --weights best.pt --data val`, which also takes any "
            "nn.Module. Only this tab sees the model, until it is reloaded."
        )
        if allows_code():
            _code()
        _own_models()


def _onnx() -> None:
    file = _file("Model, exported with a dynamic batch", ["onnx"], "upload model")
    data = st.selectbox("Measured on", (*_DATA, _OWN), key="upload data", persist_state="session")
    arrays = None
    if data == _OWN:
        arrays = _file(
            "Data: arrays x (N, ...) and, if there are labels, y (N,)", ["npz"], "upload arrays"
        )
    ready = file is not None and (data != _OWN or arrays is not None)
    if st.button("Open", type="primary", disabled=not ready, key="upload open") and file:
        options = {"data": data} if arrays is None else {"arrays": arrays.getvalue()}
        _start(file.name, file.getvalue(), **options)


def _weights(models: Sequence[str]) -> None:
    file = _file("Weights", ["safetensors"], "upload weights")
    on_screen = st.session_state.get("model")
    model = st.selectbox(
        "Of the model", models, models.index(on_screen) if on_screen in models else 0,
        key="upload of", persist_state="session",
    )  # fmt: skip
    if st.button("Open", type="primary", disabled=file is None, key="upload open") and file:
        _start(file.name, file.getvalue(), model=model)


def _code() -> None:
    st.divider()
    reference = st.text_input(
        "Code on this machine",
        placeholder="my.models:make?weights=best.pt&data=val&input-size=3x224x224",
        key="upload code",
        help=f"The server was started with {ALLOW_CODE}: what is named here is imported and run.",
    )
    if st.button("Import and open", disabled=not reference, key="upload import"):
        _forget_news()
        uploads.start_code(reference.strip())
        st.rerun()


def _file(
    label: str, kinds: list[str], key: str
) -> "st.runtime.uploaded_file_manager.UploadedFile | None":
    """A file that is worth reading; one that is not says why."""
    file = st.file_uploader(label, key=key, max_upload_size=LARGEST >> 20)
    if file is None:
        return None
    # The browser was asked for size and suffix, but a browser need not do as it is asked.
    if why := refusal(file.name, file.size, tuple(f".{kind}" for kind in kinds)):
        st.error(why)
        return None
    return file


def _start(name: str, content: bytes, **options: Any) -> None:
    _forget_news()
    uploads.start(name, content, **options)
    st.rerun()


def _forget_news() -> None:
    for key in (_REFUSED, _ADMITTED):
        st.session_state.pop(key, None)


def _follow() -> None:
    @st.fragment(run_every=_EVERY)
    def look() -> None:
        under_way = uploads.pending()
        if under_way is None or not under_way.future.done():
            st.info("A separate process opens the file: a quarter of a minute, mostly.")
            return
        try:
            admitted = uploads.take()
        except SparsityError as error:
            st.session_state[_REFUSED] = str(error)
        else:
            st.session_state[_ADMITTED] = admitted.reference
        st.rerun()

    look()


def _own_models() -> None:
    if refused := st.session_state.get(_REFUSED):
        # As code: what a file is called is nobody's markup.
        st.error("The file was not opened:")
        st.code(refused, language=None, wrap_lines=True)
    for reference, own in uploads.models().items():
        name, use, gone = st.columns([4, 1, 1], vertical_alignment="center")
        name.text("\n".join([own.label, *own.notes]))
        use.button("Open it", key=f"use {reference}", on_click=_use, args=[reference])
        gone.button("Forget", key=f"forget {reference}", on_click=_forget, args=[reference])


def _use(reference: str) -> None:
    st.session_state["model"] = reference
    st.session_state.pop(_ADMITTED, None)


def _forget(reference: str) -> None:
    if st.session_state.get("model") == reference:
        del st.session_state["model"]
    uploads.drop(reference)
