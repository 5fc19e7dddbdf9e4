"""The sample models keep what their cards promise, and can be trained again."""

import copy
import json
import sys

import pytest
import torch
from torch import nn

from sample_models.augment import Augmented
from sample_models.card import WEIGHTS, load_weights_, read_card, write_weights
from sample_models.catalog import CATALOG
from sample_models.samples import SAMPLES
from sample_models.train import fit, main
from sparsity_core.data import load_data
from sparsity_core.errors import SparsityError
from sparsity_core.plans import plan_from_dict, row_from_dict
from sparsity_core.structures import STRUCTURES
from sparsity_core.task import catalog, load_task
from sparsity_core.train import evaluate
from sparsity_core.weights import prunable

DIGITS = [name for name in SAMPLES if name.startswith("digits-")]
each_digits_model = pytest.mark.parametrize("name", DIGITS)
each_model = pytest.mark.parametrize("name", SAMPLES)
IMAGE = {"digits": (1, 8, 8), "mnist": (1, 28, 28), "cifar10": (3, 32, 32)}


def test_the_installed_catalog_has_them_all():
    known = catalog()
    assert len(SAMPLES) == 8
    assert set(SAMPLES) <= set(known)
    for name in SAMPLES:
        assert known[name].name == name
        assert known[name].summary == SAMPLES[name].summary
        assert known[name].card()["name"] == name


@each_model
def test_a_model_whose_data_is_there_does_what_its_card_says(name):
    if reason := CATALOG[name].missing():
        pytest.skip(reason)
    if name == "cifar10-resnet20":
        pytest.skip("a minute on one core; its weights are checked without data")
    task = load_task(name)
    for split in ("train", "validation", "test"):
        promised = task.card["accuracy"][split]
        assert len(task.split(split)) == promised["samples"]
        found = evaluate(task.model, task.split(split)).value
        # Another processor may round a close call the other way.
        assert abs(found - promised["value"]) <= 2 / promised["samples"]
    assert task.classes == tuple(task.card["classes"])
    # Trained weights belong to one division of the data, whatever the seed.
    assert load_task(name, seed=5).test.digest == task.test.digest


@each_digits_model
def test_digits_models_are_small_and_good(name):
    card = read_card(name)
    assert card["accuracy"]["test"]["value"] >= 0.96
    assert card["spread"]["mean"] >= 0.96
    assert len(card["spread"]["seeds"]) == 3
    assert 15_000 < card["parameters"] < 150_000


@each_model
def test_cards_and_weights_belong_together(name):
    model = SAMPLES[name].build()
    first = copy.deepcopy(model.state_dict())
    card = load_weights_(model, name)
    assert any(not torch.equal(first[key], value) for key, value in model.state_dict().items())
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    assert card["parameters"] == sum(p.numel() for p in model.parameters())
    assert card["data"] == SAMPLES[name].data
    assert card["command"].startswith(f"python -m sample_models.train {name} --seed {card['seed']}")
    outputs = model.eval()(torch.randn(3, *IMAGE[card["data"]]))
    assert outputs.shape == (3, len(card["classes"]))


@each_model
def test_cards_name_the_training_that_the_command_repeats(name):
    sample, card = SAMPLES[name], read_card(name)
    for key, value in card["training"].items():
        source = sample if key in ("shift", "mirror") else sample.training
        assert getattr(source, key) == value


def test_the_cifar_card_says_that_its_images_are_lossy():
    card = read_card("cifar10-resnet20")
    assert "JPEG" in card["summary"]
    assert "lossy" in card["data_source"]


def test_all_weights_are_light():
    files = list(WEIGHTS.glob("*.safetensors"))
    assert len(files) == len(SAMPLES)
    assert sum(file.stat().st_size for file in files) < 3_000_000


@each_model
def test_every_activation_is_used_once(name):
    # Attribution by hooks on modules is wrong where one module serves twice.
    model = SAMPLES[name].build().eval()
    calls = dict.fromkeys(
        (m for m in model.modules() if isinstance(m, (nn.ReLU, nn.GELU, nn.Softmax))), 0
    )
    for module in calls:
        module.register_forward_hook(lambda module, *_: calls.update({module: calls[module] + 1}))
    model(torch.randn(2, *IMAGE[SAMPLES[name].data]))
    assert calls
    assert set(calls.values()) == {1}


@each_digits_model
def test_two_of_four_fits_most_layers_but_not_one_input_channel(name):
    structure = STRUCTURES.make("2:4")
    layers = prunable(SAMPLES[name].build()).values()
    fitting = [layer for layer in layers if structure.fits(layer.shape, layer.groups) is None]
    assert len(fitting) >= len(layers) / 2
    assert all(layer.shape[1] > 1 for layer in fitting)


# Weights on disk


def test_weights_that_were_changed_are_refused(tmp_path):
    model = SAMPLES["digits-mlp"].build()
    write_weights("digits-mlp", model, tmp_path)
    with pytest.raises(SparsityError, match="no trained weights in"):
        load_weights_(model, "digits-mlp", tmp_path)
    (tmp_path / "digits-mlp.json").write_text(json.dumps({"sha256": "0" * 64}))
    with pytest.raises(SparsityError, match="not the file its card describes"):
        load_weights_(model, "digits-mlp", tmp_path)


def test_weights_of_another_model_are_refused(tmp_path):
    digest = write_weights("digits-mlp", nn.Linear(2, 2), tmp_path)
    (tmp_path / "digits-mlp.json").write_text(json.dumps({"sha256": digest}))
    with pytest.raises(SparsityError, match="does not fit the model"):
        load_weights_(SAMPLES["digits-mlp"].build(), "digits-mlp", tmp_path)


# Training


def test_training_again_gives_the_cards_accuracy():
    sample, card = SAMPLES["digits-mlp"], read_card("digits-mlp")
    test = load_data("digits").test
    found = evaluate(fit(sample, load_data("digits"), card["seed"]), test).value
    margin = max(3 * card["spread"]["standard_deviation"], 0.015)
    assert abs(found - card["accuracy"]["test"]["value"]) <= margin


@pytest.fixture
def train(monkeypatch):
    """`python -m sample_models.train` with these arguments, in this process."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["train", *map(str, arguments)])
        main()

    return run


def test_the_command_writes_weights_and_card(train, tmp_path, capsys):
    train("digits-mlp", "--epochs", 2, "--spread", 2, "--seed", 3, "--out", tmp_path)
    assert "epoch 2/2" in capsys.readouterr().out
    assert {p.name for p in tmp_path.iterdir()} == {"digits-mlp.json", "digits-mlp.safetensors"}
    model = SAMPLES["digits-mlp"].build()
    card = load_weights_(model, "digits-mlp", tmp_path)
    test = load_data("digits").test
    assert evaluate(model, test).value == pytest.approx(card["accuracy"]["test"]["value"], abs=1e-3)
    assert card["spread"]["seeds"] == [3, 4]
    assert card["training"]["epochs"] == 2
    assert card["command"].endswith("--seed 3 --spread 2 --epochs 2")


def test_the_command_names_the_nearest_model(train, tmp_path):
    with pytest.raises(SystemExit) as ended:  # with a text: it goes to stderr, and the code is 1
        train("digits-mpl", "--out", tmp_path)
    assert "did you mean 'digits-mlp'" in ended.value.code
    assert "\n" not in ended.value.code


# Shifts and mirror images


def varied(shift, mirror):
    torch.manual_seed(0)
    model = Augmented(nn.Identity(), shift, mirror).train()
    images = torch.arange(1.0, 1 + 64 * 3 * 5 * 4).reshape(64, 3, 5, 4)
    return images, model(images), model


@pytest.mark.parametrize("mirror", [False, True])
def test_training_images_are_shifted_copies(mirror):
    images, seen, _ = varied(1, mirror)
    padded = nn.functional.pad(images, [1] * 4)
    used = set()
    for i in range(64):
        choices = {
            (top, left, flip): window.flip(2) if flip else window
            for top in range(3)
            for left in range(3)
            for flip in ([False, True] if mirror else [False])
            for window in [padded[i, :, top : top + 5, left : left + 4]]
        }
        (choice,) = (key for key, value in choices.items() if torch.equal(value, seen[i]))
        used.add(choice)
    assert len(used) > 7 * (1 + mirror)  # 9 shifts, twice when mirrored


def test_in_eval_mode_images_are_themselves():
    images, seen, model = varied(2, True)
    assert not torch.equal(seen, images)
    assert torch.equal(model.eval()(images), images)


@pytest.mark.parametrize("kind", ["sensitivity", "curve"])
def test_a_finished_example_is_what_its_plan_gives(kind):
    shipped = getattr(catalog()["digits-lenet"], kind)()
    task, plan = load_task("digits-lenet"), plan_from_dict(shipped["plan"])
    assert plan.setting.model_digest == task.model_digest
    points = plan.points()
    assert [row["point_id"] for row in shipped["rows"]] == [point.id for point in points]
    (row,) = plan.run(task, points[:1])
    expected = row_from_dict(plan.kind, shipped["rows"][0])
    assert (row.value, row.achieved_sparsity) == pytest.approx(
        (expected.value, expected.achieved_sparsity), abs=1e-6
    )
