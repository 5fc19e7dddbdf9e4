"""The same model before any training."""

import torch
from torch import nn

from sparsity_core.copied import copied
from sparsity_core.digest import digest_of_tensors
from sparsity_core.errors import SparsityError
from sparsity_core.task import Task


def fresh_model(task: Task, seed: int) -> nn.Module:
    """The task's model with first weights drawn by seed, in eval mode; the task's is not changed.

    From `task.fresh` when it has one, else by each module's own `reset_parameters`. Raises
    SparsityError for parameters that nothing can draw again.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return (task.fresh() if task.fresh else _reset(task.model)).eval()


def origin(task: Task) -> dict[str, str]:
    """Digests of what a training from first weights depends on besides a plan's setting."""
    return {
        "validation_digest": task.validation.digest,
        "fresh_digest": digest_of_tensors(fresh_model(task, 0).state_dict()),
    }


def _reset(trained: nn.Module) -> nn.Module:
    model = copied(trained)
    for path, module in model.named_modules():
        names = ("reset_parameters", "_reset_parameters")  # the latter of nn.MultiheadAttention
        reset = next((getattr(module, name) for name in names if hasattr(module, name)), None)
        if reset is not None:
            reset()
        elif own := list(module._parameters):
            raise SparsityError(
                f"{path}.{own[0]}".lstrip(".")
                + f" cannot be drawn again: {type(module).__name__} has no reset_parameters(); "
                "give it one, or give the task `fresh`, a function that builds the untrained model"
            )
    return model
