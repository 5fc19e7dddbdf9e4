"""The scores on screen as Python that anybody can run."""

from collections.abc import Sequence

from app.scorer_source import SCORE_SAMPLES
from sparsity_core.structures import STRUCTURES, Structure


def scores_python(
    model: str, layer: str, kinds: Sequence[str], structure: Structure, sparsity: float
) -> str:
    """The Python that scores a layer's units by some scorers, masks it and correlates the ranks."""
    return f"""import pandas as pd

from sparsity_core.probe import Probe
from sparsity_core.prune import checked_scores, masks_from_units, unit_scores
from sparsity_core.scorers import SCORERS
from sparsity_core.setting import draw_batches
from sparsity_core.structures import STRUCTURES
from sparsity_core.task import load_task

task = load_task({model!r})
batches = draw_batches(task.train, {SCORE_SAMPLES}, seed=0, device="cpu")
probe = Probe(task.model, batches, task.loss, seed=0)
layer, structure = {layer!r}, STRUCTURES.make({STRUCTURES.label(structure)!r})
units, masks = {{}}, {{}}
for kind in {list(kinds)!r}:
    scorer = SCORERS.make(kind)
    scores = checked_scores(probe, scorer, [layer])[layer]
    units[kind] = unit_scores(probe, layer, scores, scorer, structure)
    masks[kind] = masks_from_units(probe.layers[layer], units[kind], structure, {sparsity!r})[layer]
ranks = pd.DataFrame({{kind: found.flatten().numpy() for kind, found in units.items()}}).rank()
print(ranks.corr())  # Spearman's rank correlation"""
