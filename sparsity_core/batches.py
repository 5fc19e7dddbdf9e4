"""How a split is dealt out to a model: batches that it can be trained on, labels that it knows."""

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sparsity_core.data import Split
from sparsity_core.errors import SparsityError


def batch_sizes(model: nn.Module, split: Split, size: int) -> list[int]:
    """The sizes of an epoch's batches.

    A single sample left over joins the batch before it: batch normalisation cannot normalise one
    sample, and dropping it would train on fewer samples than are reported.
    """
    if not len(split):
        raise SparsityError(f"{split.name}: no samples to train on; give at least one")
    whole, rest = divmod(len(split), size)
    sizes = [size] * whole + ([rest] if rest else [])
    if rest == 1 and whole:
        sizes[-2:] = [size + 1]
    if min(sizes) == 1 and any(isinstance(m, _BatchNorm) for m in model.modules()):
        raise SparsityError(
            "the model has batch normalisation, which needs two samples a batch; "
            "raise the batch size or give more samples"
        )
    return sizes


def check_labels(split: Split, outputs: Tensor, labels: Tensor) -> None:
    """Raise SparsityError for a label without an output, which a GPU would answer by crashing."""
    if outputs.dim() != 2 or labels.dim() != 1 or labels.is_floating_point():
        return  # not a classification: the loss knows what it takes
    wrong = labels[(labels < 0) | (labels >= outputs.shape[1])]
    if len(wrong):
        raise SparsityError(
            f"{split.name}: label {int(wrong[0])} is out of range for a model with "
            f"{outputs.shape[1]} outputs; check the data or the model's last layer"
        )
