"""Data of one's own in every form: what comes out, and what a broken or hostile file is told."""

import gzip
import io
import json
import struct

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from PIL import Image

from sparsity_core.cli import main
from sparsity_core.errors import SparsityError
from sparsity_core.intake.how import How, parse, reference_of, with_option
from sparsity_core.intake.samples import read_samples


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSITY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SPARSITY_STORE", str(tmp_path / "store"))


def everything(samples):
    """All samples of all splits, in the order of their first number."""
    inputs = torch.cat([part[0] for part in samples.splits.values()])
    targets = torch.cat([part[1] for part in samples.splits.values()])
    order = inputs.flatten(1)[:, 0].argsort()
    return inputs[order], targets[order]


# Forms


def test_npz_with_targets_without_and_in_splits(tmp_path):
    x, y = np.arange(20.0).reshape(10, 2), np.arange(10) % 2
    np.savez(tmp_path / "both.npz", x=x, y=y)
    inputs, targets = everything(read_samples(tmp_path / "both.npz"))
    assert inputs.tolist() == x.tolist()
    assert targets.tolist() == y.tolist()
    np.savez(tmp_path / "x.npz", x=x)
    assert read_samples(tmp_path / "x.npz").splits["test"][1] is None
    np.savez(tmp_path / "parts.npz", train_x=x, train_y=y, val_x=x[:3], val_y=y[:3], test_x=x[:1],
             test_y=y[:1])  # fmt: skip
    found = read_samples(tmp_path / "parts.npz").splits
    assert {n: len(p[0]) for n, p in found.items()} == {"train": 10, "validation": 3, "test": 1}
    np.savez(tmp_path / "two.npz", image=x, tokens=y[:, None], label=y)
    assert read_samples(tmp_path / "two.npz").packing.names == ("image", "tokens")


def test_pixels_become_zero_to_one_and_are_normalised_as_told(tmp_path):
    np.savez(tmp_path / "bytes.npz", x=np.full((10, 3, 2, 2), 255, np.uint8), y=np.zeros(10, int))
    (inputs, _) = everything(read_samples(tmp_path / "bytes.npz"))
    assert inputs.unique().tolist() == [1]
    how = How(mean=(0.5, 0.0, 1.0), std=(0.5, 2.0, 1.0))
    (inputs, _) = everything(read_samples(tmp_path / "bytes.npz", how))
    assert inputs[0, :, 0, 0].tolist() == [1, 0.5, 0]
    with pytest.raises(SparsityError, match="mean has 2 numbers .* 3 channels"):
        read_samples(tmp_path / "bytes.npz", How(mean=(0.5, 0.5)))


def idx_bytes(array):
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return head + array.tobytes()


def test_idx_of_one_pair(tmp_path):
    pixels = np.arange(10, dtype=np.uint8).repeat(4).reshape(10, 2, 2)
    images = tmp_path / "t10k-images-idx3-ubyte.gz"
    images.write_bytes(gzip.compress(idx_bytes(pixels)))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(np.arange(10, dtype=np.uint8) % 3))
    samples = read_samples(tmp_path)
    inputs, targets = everything(samples)
    assert inputs.shape == (10, 1, 2, 2)
    assert inputs[9, 0, 0, 0] == pytest.approx(9 / 255)
    assert targets.tolist() == (np.arange(10) % 3).tolist()
    assert "not normalised" in samples.notes[0]


def png(colour, size=(20, 10)):
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def pictures(tmp_path):
    for label, colour in (("cat", (255, 0, 0)), ("ant", (0, 0, 255))):
        folder = tmp_path / "pictures" / label
        folder.mkdir(parents=True)
        for i in range(6):
            (folder / f"{i}.png").write_bytes(png(colour, (20 + i, 10)))
    return tmp_path / "pictures"


def test_images_of_any_size_come_at_the_models(pictures):
    how = How(input_size=(3, 8, 8), mean=(0.0,) * 3, std=(1.0,) * 3)
    samples = read_samples(pictures, how)
    inputs = torch.cat([part[0] for part in samples.splits.values()])
    targets = torch.cat([part[1] for part in samples.splits.values()])
    assert inputs.shape == (12, 3, 8, 8)
    assert samples.classes == ("ant", "cat")
    reds = inputs[targets == 1].mean((0, 2, 3))
    assert reds.tolist() == pytest.approx([1, 0, 0])
    grey = read_samples(pictures, How(input_size=(1, 4, 4))).splits["train"][0]
    assert grey.shape[1:] == (1, 4, 4)


def test_colour_images_are_normalised_as_imagenet_unless_told(pictures):
    samples = read_samples(pictures, How(input_size=(3, 8, 8)))
    assert "0.485" in samples.notes[0]
    inputs, targets = (torch.cat([p[i] for p in samples.splits.values()]) for i in (0, 1))
    red = inputs[targets == 1][0, :, 0, 0]
    assert red.tolist() == pytest.approx([(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225])


def test_the_order_of_classes_can_be_said(pictures, tmp_path):
    how = How(input_size=(3, 8, 8), classes=("dog", "cat", "ant"))
    samples = read_samples(pictures, how)
    targets = torch.cat([part[1] for part in samples.splits.values()])
    assert sorted(targets.unique().tolist()) == [1, 2]
    with pytest.raises(SparsityError, match="class 'cat' is not among the classes given"):
        read_samples(pictures, How(input_size=(3, 8, 8), classes=("dog", "ant")))
    (tmp_path / "names.txt").write_text("dog\ncat\n\nant\n")
    assert with_option(How(), "classes", f"@{tmp_path}/names.txt").classes == how.classes


def test_so_many_images_at_most_evenly_spaced(pictures):
    samples = read_samples(pictures, How(input_size=(3, 8, 8), limit=4))
    targets = torch.cat([part[1] for part in samples.splits.values()])
    assert sorted(targets.tolist()) == [0, 0, 1, 1]
    assert any("4 images were read, evenly spaced" in note for note in samples.notes)


def test_csv_and_parquet(tmp_path):
    table = pd.DataFrame({"a": np.arange(10.0), "b": 1.0, "label": ["x", "y"] * 5})
    table.to_csv(tmp_path / "rows.csv", index=False)
    table.to_parquet(tmp_path / "rows.parquet")
    for file in ("rows.csv", "rows.parquet"):
        samples = read_samples(tmp_path / file)
        inputs, targets = everything(samples)
        assert inputs.tolist() == [[i, 1] for i in range(10)]
        assert targets.tolist() == [0, 1] * 5
        assert samples.classes == ("x", "y")
    table[["a", "b"]].to_csv(tmp_path / "numbers.csv", index=False)
    _, targets = everything(read_samples(tmp_path / "numbers.csv", How(label="a")))
    assert targets.dtype == torch.float32
    with pytest.raises(SparsityError, match="no column 'c' in the table; it has a, b, label"):
        read_samples(tmp_path / "rows.csv", How(label="c"))


def test_text_is_tokens_and_the_next_ones(tmp_path):
    (tmp_path / "some.txt").write_text("abcd" * 20)
    samples = read_samples(tmp_path / "some.txt", How(input_size=(8,), tokenizer="chars"))
    inputs, targets = samples.splits["validation"]
    assert inputs[0].tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert targets[0].tolist() == [1, 2, 3, 0, 1, 2, 3, 0]
    assert read_samples(tmp_path / "some.txt", How(input_size=(8,))).splits["test"][0][0, 0] == 97
    with pytest.raises(SparsityError, match="tokenizer absent:make: failed"):
        read_samples(tmp_path / "some.txt", How(tokenizer="absent:make"))


def saved_dataset(folder, table, features):
    folder.mkdir(parents=True)
    (folder / "state.json").write_text(json.dumps({"_data_files": []}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    with pa.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as file, pa.ipc.new_stream(
        file, table.schema
    ) as writer:  # fmt: skip
        writer.write_table(table)


def test_a_dataset_that_datasets_saved(tmp_path):
    numbers = pa.table(
        {"x": [[float(i), 0.0] for i in range(10)], "label": [i % 2 for i in range(10)]}
    )
    features = {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}}
    saved_dataset(tmp_path / "one", numbers, features)
    samples = read_samples(tmp_path / "one")
    inputs, targets = everything(samples)
    assert inputs[:, 0].tolist() == list(range(10))
    assert targets.tolist() == [0, 1] * 5
    assert samples.classes == ("no", "yes")
    for split in ("train", "test"):
        saved_dataset(tmp_path / "two" / split, numbers, features)
    (tmp_path / "two" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    sizes = {n: len(p[0]) for n, p in read_samples(tmp_path / "two").splits.items()}
    assert sizes == {"train": 8, "validation": 2, "test": 10}
    images = pa.table({"image": [{"bytes": png((255, 255, 255)), "path": "/etc/passwd"}] * 9})
    saved_dataset(tmp_path / "images", images, {})
    how = How(input_size=(1, 4, 4))
    assert read_samples(tmp_path / "images", how).splits["test"][0].unique().tolist() == [1]
    cell = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    rows = pa.array([{"bytes": None, "path": "/etc/passwd"}] * 9, cell)
    named = pa.table({"image": rows})
    saved_dataset(tmp_path / "named", named, {})
    with pytest.raises(SparsityError, match="named but not in the table"):
        read_samples(tmp_path / "named", how)


def test_a_factory(tmp_path, monkeypatch):
    (tmp_path / "my_data.py").write_text(
        "import numpy as np\ndef make():\n    return np.ones((9, 2)), np.arange(9)\n"
        "def fails():\n    raise OSError('disk')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert len(read_samples("my_data:make").splits["test"][0]) == 3
    with pytest.raises(SparsityError, match=r"data my_data:fails: failed \(OSError: disk\)"):
        read_samples("my_data:fails")


# Broken and hostile


# The line that opens it again, and the command


def test_what_was_said_survives_as_one_line():
    how = How(
        weights="/a b/best&.pt", data="./val", input_size=(3, 224, 224), mean=(0.5, 0.25, 1.0),
        classes=("a", "b=c"), limit=7, expect=0.76,
    )  # fmt: skip
    reference = reference_of("my.models:make", how)
    assert " " not in reference
    assert parse(reference) == ("my.models:make", how)
    assert parse("digits-mlp") == ("digits-mlp", How())
    assert reference_of("digits-mlp", How()) == "digits-mlp"


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("input-size", "3x0x2", "such as 3x224x224"),
        ("input-size", "large", "such as 3x224x224"),
        ("std", "0,1,1", "above zero"),
        ("limit", "0", "1 or more"),
        ("expect", "good", "0.761 or 76.1%"),
        ("classes", "@/nowhere", "cannot be read"),
    ],
)
def test_options_that_are_not_understood(key, text, message):
    with pytest.raises(SparsityError, match=message):
        with_option(How(), key, text)


def test_the_command_sweeps_a_model_of_ones_own(tmp_path, monkeypatch, capsys):
    (tmp_path / "cli_models.py").write_text(
        "import torch\nfrom torch import nn\n"
        "def make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), "
        "nn.Linear(8, 3))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    import cli_models

    torch.manual_seed(0)
    torch.save({"model": cli_models.make().state_dict(), "epoch": 1}, tmp_path / "best.pt")
    np.savez(tmp_path / "val.npz", x=np.random.default_rng(0).random((60, 3, 2, 2)))
    command = (
        "sweep cli_models:make --weights best.pt --data val.npz --sparsities .5 --out rows.csv"
    )
    assert main([*command.split(), "--metric", "kl"]) == 0
    shown = capsys.readouterr()
    assert "note: best.pt at 'model': 4 tensors loaded" in shown.err
    assert "no targets: everything is measured against the dense model" in shown.err
    assert "kl on 24 samples of validation; drop from dense, with" in shown.out
    rows = pd.read_csv(tmp_path / "rows.csv")
    assert (rows["drop"] > 0).all()
    assert main([*command.split(), "--metric", "kl", "--workers", "1"]) == 0
    assert "2 of 2 points are stored already" in capsys.readouterr().err
    assert main([*command.split(), "--input-size", "3x5x5"]) == 2
    assert "another count of numbers" in capsys.readouterr().err
