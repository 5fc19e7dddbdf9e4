"""The arms of an experiment: what is trained, and what its result says beside the ticket's."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Arm:
    """One way to come to a sparse network."""

    label: str
    asks: str  # one sentence for a class
    chain: bool = False  # each round starts from the end of the one before
    dense_too: bool = False  # has a round 0, without any mask
    if_worse: str = ""  # what it means when the arm does worse than the ticket
    if_level: str = ""  # and when it does not
    scorer: str = ""  # ranks the first weights, before any training
    schedule: str = "one-shot"  # in how many rounds the scorer does so


_TAKES_TRAINING = "Which weights matter shows in training: this mask, found before it, is worse."
_TAKES_NONE = "A mask found before any training does as well, without the cost of the rounds."

ARMS = {
    "ticket": Arm(
        "Ticket",
        "Weights go back to where they were early on, under the mask that pruning in rounds found: "
        "does that small network learn as well as the dense one?",
        chain=True,
        dense_too=True,
        if_worse="Below dense: with so few weights this is no winning ticket.",
        if_level="Not below dense, as far as these seeds tell: a winning ticket, a small network "
        "that learns as well from the start.",
    ),
    "rate-rewinding": Arm(
        "Rate rewinding",
        "Weights stay as trained and only the learning rate goes back: is rewinding the weights "
        "worth it?",
        chain=True,
        if_worse="Rewinding the weights is worth it.",
        if_level="Training on with the rate reset does as well: rewinding the weights is not what "
        "helps.",
    ),
    "one-shot": Arm(
        "One-shot ticket",
        "The same counts, pruned at once from the dense network: are the rounds worth it?",
        if_worse="The rounds are worth their time: one cut finds a worse mask.",
        if_level="One cut finds as good a mask as the rounds, at this sparsity.",
    ),
    "reinitialised": Arm(
        "Reinitialised",
        "The ticket's mask with new first weights: was it the mask alone?",
        if_worse="The mask alone is not enough: it belongs to its first weights.",
        if_level="The mask alone is enough: other first weights do as well under it.",
    ),
    "shuffled": Arm(
        "Shuffled mask",
        "The ticket's first weights, its mask shuffled in each layer: does it matter which weights "
        "stay?",
        if_worse="It matters which weights stay, not only how many in each layer.",
        if_level="Only the count in each layer matters here, not which weights stay.",
    ),
    "random": Arm(
        "Random",
        "New first weights and a shuffled mask: only the counts in each layer are the ticket's.",
        if_worse="The counts in each layer are not what makes the ticket good.",
        if_level="The counts in each layer explain the ticket: any such network does as well.",
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
        if_worse="The ticket's mask knows something of the data.",
        if_level="A mask found without any data in it does as well: the ticket's knows nothing of "
        "the data (Su et al. 2020, arXiv 2009.11094).",
    ),
    "dense": Arm(
        "Dense, equal steps",
        "No mask, trained on and on in as many rounds: how much of the gain is more training?",
        chain=True,
        if_worse="More training alone does not explain the ticket.",
        if_level="More training alone does as well: the ticket's gain, if any, may be training "
        "time.",
    ),
    "other-order": Arm(
        "Other order",
        "The ticket trained again on the data in another order: do both end in one valley, with no "
        "barrier on the straight line between them?",
        dense_too=True,
        if_worse="Another order of the data gives another accuracy.",
        if_level="The order of the data does not decide the accuracy; the line between both is "
        "under Connectivity.",
    ),
    "snip": Arm(
        "SNIP, before training",
        "As many weights as the ticket has, chosen by SNIP before the first step: does it take "
        "training to find a mask?",
        if_worse=_TAKES_TRAINING,
        if_level=_TAKES_NONE,
        scorer="snip",
    ),
    "grasp": Arm(
        "GraSP, before training",
        "As many weights as the ticket has, chosen before the first step so that the gradient "
        "stays large.",
        if_worse=_TAKES_TRAINING,
        if_level=_TAKES_NONE,
        scorer="grasp",
    ),
    "synflow": Arm(
        "SynFlow, before training",
        "As many weights as the ticket has, chosen before the first step and without any data, so "
        "that no layer runs dry.",
        if_worse=_TAKES_TRAINING,
        if_level=_TAKES_NONE,
        scorer="synflow",
        schedule="synflow-exponential",
    ),
}
