"""Scores from what each output adds to the class scores, by attribution methods of captum."""

import warnings
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from sparsity_core.errors import SparsityError
from sparsity_core.probe import Batch, Probe
from sparsity_core.scorers.attributable import layer_refusals, owner, view_of, why_no_rule
from sparsity_core.scorers.output import per_weight
from sparsity_core.scorers.scorer import SCORERS, Scorer
from sparsity_core.weights import Scores

# captum is imported where it is used: it brings matplotlib, a second that most never need.

_ROWS = 128  # inputs in one forward pass, unless one sample takes more steps
_DELTA = 1e-3  # share of the outputs' change that DeepLift may miss; rounding may need more


class _Attribution(Scorer):
    """The mean over samples of |attribution of an output, summed over its positions|.

    Attributed is the score of each sample's label, against an input of zeros.
    """

    ranks: ClassVar[Literal["weights", "outputs"]] = "outputs"

    @property
    def rows_a_sample(self) -> int:
        """How many inputs captum makes of a sample: here itself and its baseline."""
        return 2

    @abstractmethod
    def attribute(
        self, model: nn.Module, layer: nn.Module, inputs: Tensor, targets: Tensor
    ) -> Tensor:
        """The attribution to each value that a layer puts out, in that value's shape."""

    def refuses(self, probe: Probe) -> dict[str, str]:
        """Layers without an output of their own, called once, in a model that tells classes."""
        return probe.once("unattributable", lambda: layer_refusals(probe))

    def score(self, probe: Probe) -> Scores:
        """Mean of |attribution|; zero for a refused layer."""
        refused = self.refuses(probe)
        model = view_of(probe.model)
        outputs = {
            name: torch.zeros(w.shape[0], dtype=torch.float64, device=w.device)
            for name, w in probe.weights.items()
        }
        for name in [name for name in outputs if name not in refused]:
            axis = 1 if probe.layers[name].kind == "conv" else -1
            for inputs, targets in self.pieces(probe):
                found = self.attribute(model, owner(model, name), inputs, targets).detach()
                of_output = found.movedim(axis, 1).flatten(2).sum(2) if found.dim() > 2 else found
                outputs[name] += of_output.abs().sum(0, dtype=torch.float64) / probe.samples
        return per_weight(probe, outputs)

    def pieces(self, probe: Probe) -> Iterator[Batch]:
        """The batches in pieces of few rows; inputs require gradients, as captum likes them."""
        samples = max(1, _ROWS // self.rows_a_sample)
        for batch in probe.batches:
            for inputs, targets in zip(*(part.split(samples) for part in batch), strict=True):
                yield inputs.detach().clone().requires_grad_(), targets


@dataclass(frozen=True)
class _AlongALine(_Attribution):
    """An integral from the baseline to the sample, in `steps` steps."""

    steps: int

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise SparsityError(
                f"{SCORERS.kind_of(self)}: steps must be 1 or more, got {self.steps}"
            )

    @property
    def rows_a_sample(self) -> int:
        """One for each step, and for differences one more."""
        return self.steps + 1


@SCORERS.register("integrated-gradients")
@dataclass(frozen=True)
class IntegratedGradients(_AlongALine):
    """Integrated gradients of the label's score along a line of the layer's outputs.

    From the outputs h' for an input of zeros to the outputs h for the sample: (h - h') * the mean
    of df/dh over `steps` points of the line, summed over positions; the size of that, averaged
    over samples. Costs a pass forward and back for each sample, step and layer. Source:
    Sundararajan et al. 2017, arXiv 1703.01365, applied to a layer.
    """

    memory: ClassVar[float] = 1.5
    steps: int = 20  # ranks outputs as 200 do: correlation 0.997 or more on the digits models

    def attribute(
        self, model: nn.Module, layer: nn.Module, inputs: Tensor, targets: Tensor
    ) -> Tensor:
        """(h - h') * mean of df/dh."""
        from captum.attr import LayerIntegratedGradients

        return LayerIntegratedGradients(model, layer).attribute(
            inputs, torch.zeros_like(inputs), target=targets, n_steps=self.steps
        )


@SCORERS.register("conductance")
@dataclass(frozen=True)
class Conductance(_AlongALine):
    """How much of the inputs' integrated gradients flows through the output.

    Along the line from an input of zeros to the sample, in `steps` steps: the sum of df/dh times
    the change of h, over positions too; the size of that, averaged over samples. Costs a pass
    forward and back for each sample, step and layer. Source: Dhamdhere et al. 2019, arXiv
    1805.12233.
    """

    memory: ClassVar[float] = 1.5
    steps: int = 20  # ranks outputs as 1000 do: correlation 0.96 or more on the digits models

    def attribute(
        self, model: nn.Module, layer: nn.Module, inputs: Tensor, targets: Tensor
    ) -> Tensor:
        """Sum of df/dh * dh."""
        from captum.attr import LayerConductance

        return LayerConductance(model, layer).attribute(
            inputs,
            torch.zeros_like(inputs),
            target=targets,
            n_steps=self.steps,
            method="riemann_trapezoid",  # other rules leave out both ends of the line
        )


@SCORERS.register("deeplift")
@dataclass(frozen=True)
class DeepLift(_Attribution):
    """DeepLIFT's contribution of the output to the change of the label's score, rescale rule.

    Against an input of zeros; summed over positions, its size averaged over samples. One backward
    pass, but every nonlinearity must be a module of its own, used once (nn.ReLU, not F.relu): the
    rules hang on modules, and an operation without one makes the result wrong without a sign. So
    the model is checked, and so is that contributions of the inputs add up to the change. Source:
    Shrikumar et al. 2017, arXiv 1704.02685.
    """

    memory: ClassVar[float] = 1.5

    def refuses(self, probe: Probe) -> dict[str, str]:
        """All layers of a model with an operation that has no rule, too."""
        refused = super().refuses(probe)
        if len(refused) == len(probe.layers):
            return refused
        reason = probe.once("no rule", lambda: why_no_rule(probe.model, probe.first_input))
        if reason is None:
            return refused
        why = (
            f"is in a model that deeplift does not suit: {reason}; make each nonlinearity a module "
            "of its own, such as nn.ReLU, or choose integrated-gradients or conductance"
        )
        return dict.fromkeys(probe.layers, why)

    def score(self, probe: Probe) -> Scores:
        """Mean of |contribution|; zero for a refused layer."""
        if len(self.refuses(probe)) < len(probe.layers):
            self._check_that_it_adds_up(probe)
        return super().score(probe)

    def attribute(
        self, model: nn.Module, layer: nn.Module, inputs: Tensor, targets: Tensor
    ) -> Tensor:
        """(h - h') * multiplier."""
        from captum.attr import LayerDeepLift

        with _hooks_unannounced():
            return LayerDeepLift(model, layer).attribute(
                inputs, torch.zeros_like(inputs), target=targets
            )

    def _check_that_it_adds_up(self, probe: Probe) -> None:
        from captum import attr

        model = view_of(probe.model)
        unexplained, changed = 0.0, 0.0
        for inputs, targets in self.pieces(probe):
            zeros = torch.zeros_like(inputs)
            with _hooks_unannounced():
                _, delta = attr.DeepLift(model).attribute(
                    inputs, zeros, target=targets, return_convergence_delta=True
                )
            with torch.no_grad():
                change = (model(inputs) - model(zeros)).gather(1, targets[:, None])
            unexplained += float(delta.abs().sum())
            changed += float(change.abs().sum())
        share = max(_DELTA, 4 * torch.finfo(probe.first_input.dtype).eps)
        if not unexplained <= share * changed:
            raise SparsityError(
                f"deeplift: contributions miss the change of the outputs by {unexplained:.3g} of "
                f"{changed:.3g}; choose integrated-gradients or conductance"
            )


@contextmanager
def _hooks_unannounced() -> Iterator[None]:
    """captum warns at each call that it hangs hooks on the model; here it is a view of its own."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Setting forward, backward hooks", UserWarning)
        yield
