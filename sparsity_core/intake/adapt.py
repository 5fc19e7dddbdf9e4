"""A model that takes several inputs or returns several outputs, seen as tensor in, tensor out.

The model stays what it is: same parameters, same names, an instance of its own class. Only the
call is another, so that scorers, engines and metrics need not know.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sparsity_core.errors import SparsityError
from sparsity_core.intake.packed import Packing

# Where models that return several things keep the one that counts, in this order.
_OUTPUTS = ("logits", "out", "output", "prediction_logits", "start_logits", "last_hidden_state")


def adapted(model: nn.Module, packing: Packing | None, output: str | int | None) -> nn.Module:
    """The same module object, whose call unpacks its input and picks its output; itself if neither.

    Changes the class of `model`: give a copy where it is somebody else's.
    """
    if packing is None and output is None:
        return model
    own = type(model)

    def forward(self: Any, inputs: Tensor) -> Any:
        positional, named = packing.unpack(inputs) if packing else ([inputs], {})
        found = own.forward(self, *positional, **named)
        return found if output is None else _picked(found, output)

    said = "" if output is None else f"[{output}]"
    model.__class__ = type(
        own.__name__, (own,), {"forward": forward, "__qualname__": f"{own.__qualname__}{said}"}
    )
    return model


def output_of(found: Any, asked: str) -> str | int | None:
    """Which part of what a model returns counts: None for a tensor, else a name or a number."""
    if isinstance(found, Tensor) and not asked:
        return None
    if isinstance(found, Mapping):
        names = [name for name, value in found.items() if isinstance(value, Tensor)]
        chosen = asked or next((n for n in (*_OUTPUTS, *names) if n in names), "")
        if chosen in names:
            return chosen
        raise SparsityError(
            f"the model returns no tensor {asked!r}; it returns {', '.join(map(str, found))}"
        )
    if isinstance(found, tuple | list):
        names = [str(i) for i, value in enumerate(found) if isinstance(value, Tensor)]
        chosen = asked or next(iter(names), "")
        if chosen in names:
            return int(chosen)
        if not names:
            within = " and ".join(sorted({type(value).__name__ for value in found})) or "nothing"
            raise SparsityError(
                f"the model returns a {type(found).__name__} of {within} and no tensor, as "
                "detectors do; wrap it in a module that returns the one tensor that counts"
            )
        raise SparsityError(
            f"the model returns no tensor at place {asked!r}; there are tensors at "
            f"{', '.join(names) or 'none'}"
        )
    if isinstance(found, Tensor):
        raise SparsityError(f"the model returns one tensor, so there is no output {asked!r}")
    raise SparsityError(
        f"the model returns a {type(found).__name__}; it must return a tensor, or a tuple or a "
        "mapping with one"
    )


def _picked(found: Any, output: str | int) -> Any:
    return found[output]


def linear_from_conv1d_(model: nn.Module) -> list[str]:
    """Put nn.Linear where GPT-2's Conv1D is, which keeps its weight inputs first; names returned.

    The products are the same; the weight lies transposed, outputs first as masks and structures
    expect. In place.
    """
    found = []
    for path, module in list(model.named_modules()):
        for name, child in list(module.named_children()):
            if not _is_conv1d(child):
                continue
            weight: nn.Parameter = child.weight
            inputs, outputs = weight.shape
            linear = nn.Linear(inputs, outputs, device="meta").train(child.training)
            linear.weight = nn.Parameter(weight.detach().t().contiguous())
            linear.bias = child.bias
            setattr(module, name, linear)
            found.append(f"{path}.{name}".lstrip("."))
    return found


def _is_conv1d(module: nn.Module) -> bool:
    """Is it the Conv1D of transformers? Told without importing it."""
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    return (
        type(module).__name__ == "Conv1D"
        and isinstance(weight, nn.Parameter)
        and isinstance(bias, nn.Parameter)
        and weight.dim() == 2
        and bias.shape == weight.shape[1:]
    )


@torch.no_grad()
def try_out(model: nn.Module, inputs: Tensor) -> Any:
    """What the model returns for a few inputs; SparsityError in one line when it cannot be run."""
    try:
        return model(inputs)
    except SparsityError:
        raise
    except Exception as error:  # a model is anybody's code
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        advice = _advice(model, inputs, said.lower())
        raise SparsityError(
            f"{type(model).__name__}: could not be run on inputs {tuple(inputs.shape)} of "
            f"{inputs.dtype} ({said}); {advice}"
        ) from error


def _advice(model: nn.Module, inputs: Tensor, said: str) -> str:
    """What to do about a model that failed with these words, in small letters."""
    if "cuda" in said or "nvidia" in said:
        return "it asks for a GPU by itself: take the .cuda() and device= out of its code"
    # Where models of transformers keep how many positions they have learnt, by any name.
    most = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    if isinstance(most, int) and inputs.dim() > 1 and inputs.shape[1] > most:
        return f"it has {most} positions for {inputs.shape[1]}: say --input-size {most}, or less"
    return "check --input-size, the data and the kind of its numbers"
