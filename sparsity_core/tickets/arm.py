"""The arms of an experiment: what is trained, and what its result says beside the ticket's."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Arm:
    """One way to come to a sparse network."""

    label: str
    asks: str  # one sentence for a class
    chain: bool = False  # each round starts from the end of the one before
    dense_too: bool = False  # has a round 0, without any mask


ARMS = {
    "ticket": Arm(
        "Ticket",
        "Weights go back to where they were early on, under the mask that pruning in rounds found: "
        "does that small network learn as well as the dense one?",
        chain=True,
        dense_too=True,
    ),
    "rate-rewinding": Arm(
        "Rate rewinding",
        "Weights stay as trained and only the learning rate goes back: is rewinding the weights "
        "worth it?",
        chain=True,
    ),
    "one-shot": Arm(
        "One-shot ticket",
        "The same counts, pruned at once from the dense network: are the rounds worth it?",
    ),
    "reinitialised": Arm(
        "Reinitialised",
        "The ticket's mask with new first weights: was it the mask alone?",
    ),
    "shuffled": Arm(
        "Shuffled mask",
        "The ticket's first weights, its mask shuffled in each layer: does it matter which weights "
        "stay?",
    ),
    "random": Arm(
        "Random",
        "New first weights and a shuffled mask: only the counts in each layer are the ticket's.",
    ),
    "corrupted-finder": Arm(
        "Corrupted data",
        "Trained on shuffled pixels with shuffled labels, in rounds as the ticket is, only to find "
        "masks.",
        chain=True,
        dense_too=True,
    ),
    "corrupted": Arm(
        "Mask of corrupted data",
        "The ticket's first weights under the mask found on corrupted data, trained on the true "
        "data: does the mask know anything of the data?",
    ),
    "dense": Arm(
        "Dense, equal steps",
        "No mask, trained on and on in as many rounds: how much of the gain is more training?",
        chain=True,
    ),
    "other-order": Arm(
        "Other order",
        "The ticket trained again on the data in another order: do both end in one valley, with no "
        "barrier on the straight line between them?",
        dense_too=True,
    ),
}
