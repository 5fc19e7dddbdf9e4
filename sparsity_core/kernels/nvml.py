"""Energy of a GPU from NVIDIA's own counter, where the driver lets this process read it."""

import ctypes
from typing import Any

from sparsity_core.kernels.energy import Counter

_LIBRARY = "libnvidia-ml.so.1"


def gpu_counter(uuid: str, library: Any = None) -> Counter | None:
    """Microjoules that a GPU has used since its driver started; None where it does not tell.

    `uuid`: as torch has it, with or without NVIDIA's `GPU-` before it. Volta and later count, in
    steps of a millijoule that arrive some ten times a second. `library`: NVML, or a stand-in.
    """
    try:
        nvml = ctypes.CDLL(_LIBRARY) if library is None else library
    except OSError:
        return None
    handle = ctypes.c_void_p()
    name = f"GPU-{uuid.removeprefix('GPU-')}".encode()
    # NVML's functions return 0 for success.
    if nvml.nvmlInit_v2() or nvml.nvmlDeviceGetHandleByUUID(name, ctypes.byref(handle)):
        return None
    used = ctypes.c_ulonglong()

    def failed() -> bool:
        return bool(nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(used)))

    def read() -> int:
        if failed():
            raise OSError("NVML stopped telling the energy of the GPU")
        return 1000 * used.value

    return None if failed() else read
