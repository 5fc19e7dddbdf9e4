"""Where threads that share a call wait for each other: a number in memory counts arrivals."""

from typing import Any

from llvmlite import ir

from sparsity_core.kernels import vector as v
from sparsity_core.kernels.compiled import compiled
from sparsity_core.kernels.vector import primitive, whole

# Looks, some 20 us, before a thread gives its core away at each further one: the others are soon
# there where each has a core, and may need this one where they have not.
_PATIENCE = 10_000


@primitive(whole, whole)
def arrive(b: Any, address: Any) -> Any:
    """Count one more; what was counted before."""
    return b.atomic_rmw("add", v.at(b, address, v.LONG), ir.Constant(v.LONG, 1), "seq_cst")


@primitive(whole, whole)
def arrived(b: Any, address: Any) -> Any:
    """How many are counted now."""
    return b.load_atomic(v.at(b, address, v.LONG), "seq_cst", 8)


@primitive(whole)
def give_way(b: Any) -> Any:
    """Let another thread have this core."""
    return b.sext(v.call(b, "sched_yield", v.INT), v.LONG)


@compiled
def meet(address, expected):  # type: ignore[no-untyped-def]
    """Arrive, and go on when so many have arrived since the call began."""
    arrive(address)
    looks = 0
    while arrived(address) < expected:
        looks += 1
        if looks > _PATIENCE:
            give_way()
