"""What a sweep says in one sentence."""

from collections.abc import Sequence

from sparsity_core.sweep.choice import Choice


def in_a_sentence(choices: Sequence[Choice], within: str) -> str:
    """Which layer can be the sparsest and which the least, pruned alone `within` a change."""
    ordered = sorted(choices, key=lambda choice: choice.sparsity)
    least, most = ordered[0], ordered[-1]
    if len({choice.sparsity for choice in ordered}) == 1:
        layers = f"`{least.layer}`" if len(ordered) == 1 else "every layer"
        return f"Alone, {layers} stays {within} {_how_far(least)}."
    alike = sum(choice.sparsity == most.sparsity for choice in ordered)
    layers = f"`{most.layer}` stays" if alike == 1 else f"{alike} layers stay"
    return (
        f"Alone, {layers} {within} {_how_far(most)}; `{least.layer}`, the most "
        f"sensitive, {_how_far(least)}."
    )


def _how_far(choice: Choice) -> str:
    return f"up to {100 * choice.sparsity:.4g} %" if choice.row else "at no measured sparsity"
