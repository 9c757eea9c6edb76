import os
import stat
from pathlib import Path

import pytest

from common.errors import UserError
from common.files import replacing, write_text


def names(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]


def test_text_is_written_as_it_is_into_a_new_folder(tmp_path):
    path = tmp_path / "new" / "a.csv"
    write_text(path, "lung\r\nLunge: é\n")
    assert path.read_bytes() == "lung\r\nLunge: é\n".encode()
    write_text(path, "name \udce9\n")  # a file name in another encoding
    assert path.read_bytes() == b"name ?\n"
    assert names(path.parent) == ["a.csv"]


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (RuntimeError("bug"), RuntimeError, "^bug$"),
        (OSError(28, "No space left on device"), UserError,
         r"m\.png: cannot be written \(No space left on device\); free space or name another folder$"),
        (OSError("broken\npipe"), UserError, r"m\.png: cannot be written \(broken pipe\); "),
    ],
)  # fmt: skip
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, error, kind, words):
    path = tmp_path / "m.png"
    path.write_bytes(b"old")
    with pytest.raises(kind, match=words), replacing(path) as part:
        part.write_bytes(b"half")
        raise error
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["m.png"]


def test_what_the_system_refuses_is_the_users_fault(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/a\.txt: cannot be written \((Not a directory|File exists)\)"):
        write_text(tmp_path / "file" / "a.txt", "")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=r"folder: cannot be written \(Is a directory\)"):
        write_text(tmp_path / "folder", "")
    assert sorted(names(tmp_path)) == ["file", "folder"]


def test_what_a_kill_left_behind_is_overwritten(tmp_path):
    parts = []
    for name in ("a.pt", "a.pt", "b.pt"):
        with replacing(tmp_path / name) as part:
            part.write_bytes(b"1")
            parts.append(part)
    assert parts[0] == parts[1] != parts[2]


@pytest.mark.parametrize(("name", "ending"), [("m.nii.gz", ".nii.gz"), ("1.2.NII.GZ", ".nii.gz"), ("m.PNG", ".png")])
def test_the_ending_stays(tmp_path, name, ending):
    with replacing(tmp_path / name) as part:
        assert part.name.endswith(ending) and part.name.startswith(".partial-")
        part.touch()
    assert names(tmp_path) == [name]


def test_the_umask_decides_who_may_read(tmp_path):
    old = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_the_content_is_on_the_disk_before_it_takes_the_name(tmp_path, monkeypatch):
    """A kill during the sync leaves the old file."""

    class Killed(BaseException):
        pass

    def kill(handle):
        assert os.fstat(handle).st_size == 3
        raise Killed

    write_text(tmp_path / "a", "old")
    monkeypatch.setattr(os, "fsync", kill)
    with pytest.raises(Killed):
        write_text(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "old"
