"""A device that stands in for a GPU: tensors there never mix with tensors on the CPU.

Within `far_device()` the device "meta" holds numbers: tensors moved to it, or made on it, compute
on the CPU behind the scenes, but an operator that is given tensors of both devices raises, as CUDA
would; as there, a copy may cross, and an index may lie on the CPU.
"""

import contextlib

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

FAR = "meta"  # the one other device that autograd knows on every machine
_MAY_CROSS = ("_to_copy", "copy_", "index.Tensor", "index_put", "_index_put_impl_")
_ANSWERS = ("equal", "is_same_size", "_local_scalar_dense")  # of Python, no tensors


class _FarTensor(Tensor):
    """A tensor that says it is far away and holds one that is near."""

    @staticmethod
    def __new__(cls, near):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            near.size(),
            strides=near.stride(),
            storage_offset=near.storage_offset(),
            dtype=near.dtype,
            layout=near.layout,
            device=FAR,
        )

    def __init__(self, near):
        self.near = near

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, operator, types, args=(), kwargs=None):
        return _run(operator, args, kwargs or {})

    @property
    def data(self):
        return _FarTensor(self.near.detach())

    @data.setter
    def data(self, other):
        self.near = other.near

    def data_ptr(self):  # weights are told apart by it
        return self.near.data_ptr()

    def untyped_storage(self):
        return self.near.untyped_storage()


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        return _run(operator, args, kwargs or {})


def _run(operator, args, kwargs):
    name = str(operator).removeprefix("aten.")
    given = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)]
    far = [t for t in given if isinstance(t, _FarTensor)]
    near = [t for t in given if not isinstance(t, _FarTensor) and t.dim()]
    if far and near and not name.startswith(_MAY_CROSS):
        shapes = [(tuple(t.shape), t.device.type) for t in given]
        raise RuntimeError(f"{name}: expected all tensors to be on the same device, got {shapes}")
    args, kwargs = tree_map_only(_FarTensor, lambda t: t.near, (args, dict(kwargs)))
    device = kwargs.get("device")
    if device is not None:
        kwargs["device"] = torch.device("cpu")
    found = operator(*args, **kwargs)
    stays_far = torch.device(device).type == FAR if device is not None else bool(far)
    if not stays_far or name.startswith(_ANSWERS):
        return found
    itself = {id(t.near): t for t in far}  # an operator in place gives back what it was given
    return tree_map_only(
        Tensor, lambda t: itself[id(t)] if id(t) in itself else _FarTensor(t), found
    )


@contextlib.contextmanager
def far_device():
    """The device FAR as described above; leave no tensor of it behind."""
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # or modules lose what is near
    try:
        with _Mode():
            yield FAR
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)
