"""The sample models by name, for `sparsity_core.task.load_task`."""

from functools import partial

from sample_models.card import (
    load_weights_,
    read_card,
    read_curve,
    read_export,
    read_kernels,
    read_moving,
    read_sensitivity,
    read_tickets,
)
from sample_models.samples import SAMPLES
from sparsity_core.data import load_data, missing_data
from sparsity_core.task import CatalogEntry, Task

# Trained weights belong to these splits: any other seed would test on samples they were trained on.
SPLIT_SEED = 0


def load_sample(name: str, seed: int = 0) -> Task:  # noqa: ARG001 - see SPLIT_SEED
    """The trained sample model of a name with its data; `seed` changes nothing."""
    sample = SAMPLES[name]
    data = load_data(sample.data, SPLIT_SEED)
    model = sample.build()
    card = load_weights_(model, name)
    return Task(
        name=name,
        model=model.eval(),
        train=data.train,
        validation=data.validation,
        test=data.test,
        classes=data.classes,
        card=card,
        fresh=sample.fresh or sample.build,
    )


CATALOG = {
    name: CatalogEntry(
        name,
        sample.summary,
        partial(load_sample, name),
        partial(missing_data, sample.data),
        partial(read_card, name),
        partial(read_sensitivity, name),
        partial(read_tickets, name),
        partial(read_moving, name),
        partial(read_export, name),
        kernels=read_kernels,
        curve=partial(read_curve, name),
    )
    for name, sample in SAMPLES.items()
}
