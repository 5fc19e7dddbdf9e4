"""On which device kernels are timed: the GPU is greyed, with the reason, where there is none."""

import streamlit as st
import torch

from app.forms import warn_of_unknown
from app.kernel_source import NO_GPU
from sparsity_core.kernels.gpu import DTYPES
from sparsity_core.kernels.gpu_race import GPU

CPU_NAME, GPU_NAME = "CPU", "GPU"


def choose_device() -> dict[str, str]:
    """`device` and `dtype` of a plan."""
    there = torch.cuda.is_available()
    warn_of_unknown("kernels-device", (CPU_NAME, GPU_NAME))
    chosen = st.segmented_control(
        "Device", [CPU_NAME, GPU_NAME], default=CPU_NAME, required=True, key="kernels-device",
        bind="query-params", label_visibility="collapsed", disabled=not there,
    )  # fmt: skip
    if not there:
        st.caption(f":material/block: GPU formats cannot run {NO_GPU} ({', '.join(GPU)}).")
    if chosen == CPU_NAME or not there:
        return {"device": "cpu", "dtype": "float32"}
    dtype = st.segmented_control(
        "Type on the GPU", list(DTYPES), default="bfloat16", required=True,
        key="kernels-dtype", bind="query-params", label_visibility="collapsed",
    )  # fmt: skip
    return {"device": "cuda", "dtype": str(dtype)}
