"""Models of transformers and timm; what needs the package itself is skipped where it is absent."""

import importlib
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sparsity_core.errors import SparsityError
from sparsity_core.sweep.plan import plan_sweep
from sparsity_core.task import load_task
from sparsity_core.weights import prunable, unprunable

TEXT = "to be, or not to be, that is the question. " * 20


def needs(package):
    """The package, or a skip: timm fails on the import where torchvision has no CPU build."""
    try:
        return importlib.import_module(package)
    except Exception as error:  # noqa: BLE001 - an installation may be broken in any way
        pytest.skip(f"{package} cannot be imported here: {error}")


def pixels(folder, shape):
    """A file of 12 random pictures with a label each."""
    x = np.random.default_rng(0).integers(0, 256, (12, *shape), dtype=np.uint8)
    np.savez(folder / "pixels.npz", x=x, y=np.arange(12) % 3)
    return x


@pytest.fixture
def gpt2(tmp_path):
    """A directory of transformers with GPT-2, tiny and random; and the model."""
    transformers = needs("transformers")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=256, n_positions=16, n_embd=8, n_layer=1, n_head=2, bos_token_id=0,
        eos_token_id=0,
    )  # fmt: skip
    model = transformers.GPT2LMHeadModel(config).eval()
    model.save_pretrained(tmp_path / "gpt2")
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path, model


# transformers is not ours to keep free of warnings.
@pytest.mark.filterwarnings("ignore")
def test_a_directory_of_transformers_is_a_model(gpt2):
    folder, model = gpt2
    task = load_task(f"hf:{folder}/gpt2?data={folder}/text.txt&input-size=16")
    tokens = task.test.inputs
    assert torch.allclose(task.model(tokens), model(tokens).logits, atol=1e-5)
    assert "4 Conv1D became Linear" in " ".join(task.notes)
    layers = prunable(task.model)
    assert layers["transformer.wte.weight"].aliases == ("lm_head.weight",)
    assert layers["transformer.h.0.attn.c_attn.weight"].shape == (24, 8)
    assert "transformer.wpe.weight" in unprunable(task.model)
    values = {}
    for engine in ("reference", "exact"):
        plan = plan_sweep(task, scorers=["wanda", "taylor"], sparsities=[0.5], engine=engine)
        rows = list(plan.run(task, plan.points()))
        assert {row.status for row in rows} == {"ok"}
        assert {row.metric for row in rows} == {"perplexity"}
        values[engine] = [row.value for row in rows]
    assert values["exact"] == pytest.approx(values["reference"], rel=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_windows_longer_than_a_models_positions_say_how_many_it_has(gpt2):
    folder, _ = gpt2
    with pytest.raises(SparsityError, match="16 positions for 128: say --input-size 16"):
        load_task(f"hf:{folder}/gpt2?data={folder}/text.txt")


def test_a_hub_name_is_pinned_by_its_commit(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", ModuleType("transformers"))
    for name in ("gpt2", "gpt2@main"):
        with pytest.raises(SparsityError, match="pin a model of the hub by its commit"):
            load_task(f"hf:{name}?data=text.txt")


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3 * 4 * 5, 3)

    def forward(self, x):
        return self.fc(x.flatten(1))


def test_size_and_normalisation_come_from_timm(tmp_path, monkeypatch):
    """With a stand-in for timm: the two functions of it that are called, and how."""
    asked, config = [], {"input_size": (3, 4, 5), "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.1, 1.0)}

    def create_model(name, pretrained):
        asked.append((name, pretrained))
        return Small()

    data = SimpleNamespace(resolve_model_data_config=lambda _model: config)
    stand_in = SimpleNamespace(create_model=create_model, data=data)
    monkeypatch.setitem(sys.modules, "timm", stand_in)
    torch.manual_seed(0)
    trained = Small()
    save_file(trained.state_dict(), tmp_path / "own.safetensors")
    x = pixels(tmp_path, (4, 5, 3))  # channels last, as pictures mostly lie
    task = load_task(f"timm:small?weights={tmp_path}/own.safetensors&data={tmp_path}/pixels.npz")
    assert torch.equal(task.model.fc.weight, trained.fc.weight)
    expected = (np.moveaxis(x, -1, 1) / 255 - np.array([0.5, 0.4, 0.3]).reshape(1, 3, 1, 1)) / (
        np.array([0.2, 0.1, 1.0]).reshape(1, 3, 1, 1)
    )
    found = torch.cat([task.split(name).inputs for name in ("train", "validation", "test")])
    assert found.shape == (12, 3, 4, 5)
    assert found.sum().item() == pytest.approx(expected.sum(), rel=1e-5)
    assert any(np.allclose(found[0], one, atol=1e-5) for one in expected)
    load_task(f"timm:small?data={tmp_path}/pixels.npz&mean=0,0,0&std=1,1,1")
    assert asked == [("small", False), ("small", True)]


@pytest.mark.filterwarnings("ignore")
def test_a_model_of_timm_itself(tmp_path):
    timm = needs("timm")
    torch.manual_seed(0)
    trained = timm.create_model("test_resnet", pretrained=False).eval()
    save_file(trained.state_dict(), tmp_path / "own.safetensors")
    pixels(tmp_path, (160, 160, 3))
    task = load_task(
        f"timm:test_resnet?weights={tmp_path}/own.safetensors&data={tmp_path}/pixels.npz"
    )
    x = task.test.inputs
    assert torch.allclose(task.model(x), trained(x), atol=1e-5)
    plan = plan_sweep(task, layers=["first", "last"], sparsities=[0.5])
    assert {row.status for row in plan.run(task, plan.points())} == {"ok"}
    with pytest.raises(SparsityError, match="check the name"):
        load_task("timm:no_such_model?weights=own.safetensors&data=pixels.npz")
