"""Images from folders and archives, and what is wrong with those that are refused."""

import io
import struct
import tarfile
import time
import zipfile

import pytest
import torch
from PIL import Image

from sparsity_core.data import images as images_module
from sparsity_core.data import load_data
from sparsity_core.errors import SparsityError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("SPARSITY_CACHE", str(tmp_path_factory.mktemp("cache")))


def png(value, size=(4, 4)):
    buffer = io.BytesIO()
    Image.new("RGB", size, (value, 0, 255)).save(buffer, "PNG")
    return buffer.getvalue()


def pictures(train=20, test=6):
    """name -> content, two classes; the red channel tells the class."""
    return {
        f"top/{split}/{label}/{i}.png": png(value)
        for split, count in (("train", train), ("test", test))
        for label, value in (("cat", 10), ("dog", 200))
        for i in range(count)
    }


def write_folder(path, files):
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)


def write_zip(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def write_tar(path, files, mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


WRITERS = {"pets": write_folder, "pets.zip": write_zip, "pets.tar.gz": write_tar}
WRITERS["pets.tar"] = lambda path, files: write_tar(path, files, "w")
WRITERS["pets.tgz"] = write_tar


@pytest.mark.parametrize("name", WRITERS)
def test_images_from_folders_and_archives(tmp_path, name):
    WRITERS[name](tmp_path / name, pictures())
    data = load_data(f"images:{tmp_path / name}")
    assert data.classes == ("cat", "dog")
    assert [len(s) for s in (data.train, data.validation, data.test)] == [36, 4, 12]
    for split in (data.train, data.validation, data.test):
        assert split.inputs.shape[1:] == (3, 4, 4)
        red = torch.where(split.targets == 0, 10 / 255, 200 / 255) * 2 - 1
        assert torch.allclose(split.inputs[:, 0], red[:, None, None].expand(-1, 4, 4), atol=1e-6)
        assert (split.inputs[:, 1] == -1).all()
        assert (split.inputs[:, 2] == 1).all()
    assert [p.name for p in tmp_path.iterdir()] == [name]  # nothing was unpacked


def test_images_without_splits_are_divided(tmp_path):
    write_folder(tmp_path, {f"{c}/{i}.png": png(i) for c in "ab" for i in range(10)})
    data = load_data(f"images:{tmp_path}")
    assert [len(s) for s in (data.train, data.validation, data.test)] == [12, 4, 4]


def test_decoding_happens_once_until_the_files_change(tmp_path, monkeypatch):
    path = tmp_path / "pets.zip"
    write_zip(path, pictures())
    first = load_data(f"images:{path}")
    monkeypatch.setattr(images_module, "_decode", lambda _: pytest.fail("decoded again"))
    assert load_data(f"images:{path}").train.digest == first.train.digest
    monkeypatch.undo()
    write_zip(path, pictures(train=30))
    assert len(load_data(f"images:{path}").train) == 54


def test_a_changed_picture_in_a_folder_is_seen(tmp_path):
    write_folder(tmp_path, pictures())
    first = load_data(f"images:{tmp_path}")
    time.sleep(0.01)
    for file in (tmp_path / "top/train/cat").iterdir():
        file.write_bytes(png(77))
    assert load_data(f"images:{tmp_path}").train.digest != first.train.digest


def test_a_broken_cache_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSITY_CACHE", str(tmp_path / "cache"))
    write_zip(tmp_path / "pets.zip", pictures())
    load_data(f"images:{tmp_path / 'pets.zip'}")
    (cached,) = (tmp_path / "cache").iterdir()
    cached.write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(SparsityError, match=f"{cached}.*delete this file"):
        load_data(f"images:{tmp_path / 'pets.zip'}")


def huge_png(side):
    """A few bytes that claim side x side pixels."""
    content = bytearray(png(0))
    content[16:24] = struct.pack(">II", side, side)
    crc = zipfile.crc32(bytes(content[12:29]))
    content[29:33] = struct.pack(">I", crc)
    return bytes(content)


@pytest.mark.parametrize("name", ["pets", "pets.zip", "pets.tar.gz"])
@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no images"),
        ({"readme.txt": b"hello"}, "no images"),
        ({"a/._0.png": b"resource fork"}, "no images"),
        ({"0.png": png(0)}, "in no class folder"),
        ({"train/0.png": png(0)}, "in no class folder"),
        ({"a/0.png": b"GIF89a not a png"}, "no readable image"),
        ({"a/0.png": png(0)[:50]}, "no readable image"),
        ({"a/0.png": huge_png(5000)}, "5000x5000 pixels; 4096 a side"),
        ({"a/0.png": huge_png(60_000)}, "no readable image"),
        ({"a/0.png": png(0), "a/1.png": png(0, (5, 4))}, "5x4 pixels, others are 4x4"),
        ({"a/0.png": png(0)}, "cannot be split"),
        ({"test/a/0.png": png(0)}, "has test only"),
        (pictures() | {"top/test/cow/0.png": png(1)}, "class cow has no samples"),
        ({"a/0\n.png": png(0)}, "no plain name"),
    ],
)
def test_broken_images(tmp_path, name, files, message):
    (tmp_path / "pets").mkdir()
    WRITERS[name](tmp_path / name, files)
    with pytest.raises(SparsityError, match=message):
        load_data(f"images:{tmp_path / name}")


@pytest.mark.parametrize("name", ["../a/0.png", "/a/0.png", "a/../../0.png"])
@pytest.mark.parametrize("archive", ["pets.zip", "pets.tar.gz"])
def test_names_that_point_elsewhere_are_refused(tmp_path, name, archive):
    WRITERS[archive](tmp_path / archive, {name: png(0)})
    with pytest.raises(SparsityError, match="no plain name"):
        load_data(f"images:{tmp_path / archive}")


@pytest.mark.parametrize("archive", ["pets.zip", "pets.tar.gz"])
def test_huge_members_are_not_read(tmp_path, archive):
    WRITERS[archive](tmp_path / archive, {"a/0.png": bytes(33 << 20)})
    assert (tmp_path / archive).stat().st_size < 100_000
    with pytest.raises(SparsityError, match="34603008 bytes; 33554432 at most"):
        load_data(f"images:{tmp_path / archive}")


@pytest.mark.parametrize("archive", ["pets.zip", "pets.tar.gz", "pets.tar", "pets.txt"])
def test_cut_and_foreign_archives(tmp_path, archive):
    path = tmp_path / archive
    WRITERS.get(archive, write_tar)(path, pictures())
    whole = path.read_bytes()
    path.write_bytes(b"words" if archive == "pets.txt" else whole[: len(whole) // 3])
    with pytest.raises(SparsityError, match="pets"):
        load_data(f"images:{path}")


def test_links_in_a_tar_are_not_followed(tmp_path):
    (tmp_path / "secret.png").write_bytes(png(1))
    with tarfile.open(tmp_path / "pets.tar", "w") as archive:
        member = tarfile.TarInfo("a/0.png")
        member.type, member.linkname = tarfile.SYMTYPE, str(tmp_path / "secret.png")
        archive.addfile(member)
    with pytest.raises(SparsityError, match="no images"):
        load_data(f"images:{tmp_path / 'pets.tar'}")
