"""Times of several calls against each other on a GPU, without the time it takes to start them."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsity_core.errors import SparsityError
from sparsity_core.kernels.kernel import Product
from sparsity_core.kernels.timing import Call, Times, interleaved, quantiles

_SAMPLE = 1e-3  # seconds that one sample should last
_MOST = 200  # calls in a sample
_WARM = 3  # calls before anything is timed or captured


@dataclass(frozen=True)
class GpuTimes(Times):
    """Seconds on the GPU; `graph`: replayed from a CUDA graph, or started call by call."""

    graph: bool


@dataclass(frozen=True)
class GpuSample:
    """What runs so many calls; as one CUDA graph where they can be captured."""

    run: Call
    calls: int
    graph: bool


def interleaved_on_gpu(
    calls: Mapping[str, Sequence[Call]], repeats: int, seed: int = 0
) -> dict[str, GpuTimes]:
    """Times of all calls, each once a round, the rounds in random orders.

    A sample holds as many calls as last a millisecond, captured in a CUDA graph; what cannot be
    captured is started call by call. Several copies of a call take turns within a sample: with
    enough of them the weights have left the GPU's cache.
    """
    rounds = random.Random(seed)
    samples = {name: sample_of(copies) for name, copies in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name in rounds.sample(list(calls), len(calls)):
            times[name].append(_seconds(samples[name].run) / samples[name].calls)
    return {name: GpuTimes(*quantiles(times[name]), graph=samples[name].graph) for name in calls}


def timed(calls: Mapping[str, Sequence[Call]], repeats: int, device: str) -> Mapping[str, Times]:
    """Times of all calls against each other on `cpu` or `cuda`."""
    return interleaved_on_gpu(calls, repeats) if device == "cuda" else interleaved(calls, repeats)


def quickest(makers: Mapping[str, Callable[[], Product]]) -> Product:
    """The quickest of several products for each number of rows, timed at the first call with it.

    One that cannot run on this GPU is left out; raises SparsityError when none can, or when the
    first call with a number of rows comes while a CUDA graph is captured.
    """
    products: dict[str, Product] = {}
    failed: dict[str, str] = {}
    for name, make in makers.items():
        try:
            products[name] = make()
        except RuntimeError as error:
            failed[name] = str(error)
    chosen: dict[int, Product] = {}

    def run(x: Tensor) -> Tensor:
        if len(x) not in chosen:
            chosen[len(x)] = _quickest_for(x, products, failed)
        return chosen[len(x)](x)

    return run


def _quickest_for(x: Tensor, products: Mapping[str, Product], failed: dict[str, str]) -> Product:
    if x.is_cuda and torch.cuda.is_current_stream_capturing():
        raise SparsityError(f"call it once with {len(x)} rows before a CUDA graph is captured")
    calls: dict[str, list[Call]] = {}
    for name, product in products.items():
        try:
            product(x)
        except (RuntimeError, SparsityError) as error:
            failed[name] = str(error)
        else:
            calls[name] = [lambda product=product: product(x)]  # type: ignore[misc]
    if not calls:
        reasons = "; ".join(dict.fromkeys(failed.values()))
        raise SparsityError(f"no backend runs on this GPU: {reasons}")
    if len(calls) == 1:
        return products[next(iter(calls))]
    times = interleaved_on_gpu(calls, 5)
    return products[min(calls, key=lambda name: times[name].p50)]


def sample_of(copies: Sequence[Call]) -> GpuSample:
    """About a millisecond of calls, the copies in turn."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for copy in copies:
            for _ in range(_WARM):
                copy()
    torch.cuda.current_stream().wait_stream(side)
    once = _seconds(lambda: [copy() for copy in copies])
    turns = max(1, min(_MOST, round(_SAMPLE / max(once, 1e-9))))

    def run() -> None:
        for _ in range(turns):
            for copy in copies:
                copy()

    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            run()
    except RuntimeError:
        torch.cuda.synchronize()
        return GpuSample(run, turns * len(copies), graph=False)
    return GpuSample(graph.replay, turns * len(copies), graph=True)


def _seconds(call: Call) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3
