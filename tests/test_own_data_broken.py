"""Files of one's own that are broken, lie or point elsewhere: refused with what to do."""

import io
import tarfile
import zipfile

import numpy as np
import pytest

from sparsity_core.data import arrays as data_arrays
from sparsity_core.errors import SparsityError
from sparsity_core.intake.how import How
from sparsity_core.intake.samples import read_samples
from tests.test_own_data import (
    _own_cache,  # noqa: F401
    png,
)


def test_an_npz_bomb_is_not_inflated(tmp_path, monkeypatch):
    monkeypatch.setattr(data_arrays, "_LARGEST", 1 << 20)
    np.savez_compressed(tmp_path / "bomb.npz", x=np.zeros((10, 1 << 20), np.uint8))
    assert (tmp_path / "bomb.npz").stat().st_size < 1 << 16
    with pytest.raises(SparsityError, match="inflates to 10485888"):
        read_samples(tmp_path / "bomb.npz")


def test_an_npz_that_lies_about_its_shape(tmp_path):
    file = io.BytesIO()
    np.save(file, np.zeros(4))
    lying = file.getvalue().replace(b"(4,), }", b"(4000000000000,), }"[: 7 + 12])
    with zipfile.ZipFile(tmp_path / "lying.npz", "w") as archive:
        archive.writestr("x.npy", lying)
    with pytest.raises(SparsityError, match="not a plain npz"):
        read_samples(tmp_path / "lying.npz")


def test_an_npz_with_objects_is_not_unpickled(tmp_path):
    np.savez(tmp_path / "objects.npz", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(SparsityError, match="allow_pickle=False"):
        read_samples(tmp_path / "objects.npz")


@pytest.mark.parametrize("name", ["../../evil.png", "/evil.png", "a\x1b[31m/b.png"])
def test_archives_that_point_elsewhere(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr(name, png((0, 0, 0)))
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(png((0, 0, 0)))
        archive.addfile(member, io.BytesIO(png((0, 0, 0))))
    for file in ("evil.zip", "evil.tar"):
        with pytest.raises(SparsityError, match="no plain name"):
            read_samples(tmp_path / file, How(input_size=(3, 4, 4)))
    assert not list(tmp_path.parent.glob("evil.png"))


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("a.npz", b"PK\x03\x04 no zip", "not a plain npz"),
        ("a.csv", b"a,b\n1,2\n1,2,3\n", "no readable table"),
        ("a.csv", b"a,b\n1,\n", "empty cells"),
        ("a.csv", b"a,b\n1,text\n", "column 'b' holds no numbers"),
        ("a.csv", b"", "no readable table"),
        ("a.parquet", b"PAR1", "no readable table"),
        ("a.txt", b"short", "less than one window"),
        ("a.bin", b"?", "no data of a known kind"),
        ("a.zip", b"no zip", "fetch it again"),
    ],
)
def test_broken_files_say_what_to_do(tmp_path, file, content, message):
    (tmp_path / file).write_bytes(content)
    with pytest.raises(SparsityError, match=message):
        read_samples(tmp_path / file)
