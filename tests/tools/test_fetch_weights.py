"""``python -m tools fetch-weights``: checked before it is placed, placed whole, nothing lost."""

import hashlib
import json

import pytest
import yaml
from monai.apps.utils import HashCheckError
from monai.bundle import download_large_files

from common.bundle import BUNDLES
from common.errors import UserError
from common.runtime import large_files
from common.runtime.large_files import read_list, text_of
from tools.__main__ import main

WEIGHTS = {"a": b"weights of a" * 1000, "b": b"weights of b" * 1000}
SIDECAR = b'{"seed": 0}'


@pytest.fixture
def bundles(tmp_path, monkeypatch):
    """Two bundles whose lists were written from weights that they had, and `c` without any."""
    root = tmp_path / "bundles"
    for name in ("a", "b", "c"):
        (root / name / "configs").mkdir(parents=True)
        (root / name / "models").mkdir()
        (root / name / "large_files.yml").write_text(text_of([]))
    monkeypatch.setattr("common.bundle.BUNDLES", root)
    for name, content in WEIGHTS.items():
        models = root / name / "models"
        (models / "model.pt").write_bytes(content)
        (models / "model.json").write_bytes(SIDECAR + name.encode())
        for other in ("previous_model.pt", "small.pt", "small.json", "model.onnx"):
            (models / other).write_bytes(b"not listed")
        assert main(["fetch-weights", "--write", "--bundle", name]) == 0
        for path in models.iterdir():
            path.unlink()
    return root


@pytest.fixture
def share(tmp_path):
    """What a colleague gives: both bundles' files by their paths."""
    folder = tmp_path / "share"
    for name, content in WEIGHTS.items():
        (folder / name / "models").mkdir(parents=True)
        (folder / name / "models" / "model.pt").write_bytes(content)
        (folder / name / "models" / "model.json").write_bytes(SIDECAR + name.encode())
    return folder


def fetch(capsys, folder, *options):
    capsys.readouterr()
    code = main(["fetch-weights", "--from", str(folder), *options])
    return code, capsys.readouterr().out.splitlines()


def placed(bundles):
    return {p.relative_to(bundles).as_posix(): p.read_bytes() for p in bundles.glob("*/models/*")}


ALL = {f"{name}/models/model.pt": content for name, content in WEIGHTS.items()} | {
    f"{name}/models/model.json": SIDECAR + name.encode() for name in WEIGHTS
}


def test_the_list_is_what_was_there(bundles):
    content = yaml.safe_load((bundles / "a" / "large_files.yml").read_text())
    assert content["large_files"][0] == {
        "path": "models/model.pt", "url": "", "hash_val": hashlib.sha256(WEIGHTS["a"]).hexdigest(),
        "hash_type": "sha256", "size": len(WEIGHTS["a"]),
    }  # fmt: skip
    assert [entry["path"] for entry in content["large_files"]] == ["models/model.pt", "models/model.json"]


def test_placed_and_then_already_there(bundles, share, capsys):
    code, lines = fetch(capsys, share)
    assert code == 0
    assert lines == [
        "a/models/model.pt: placed, from a/models/model.pt",
        "a/models/model.json: placed, from a/models/model.json",
        "b/models/model.pt: placed, from b/models/model.pt",
        "b/models/model.json: placed, from b/models/model.json",
        "c: lists no weights; train it, or see its card",
    ]
    assert placed(bundles) == ALL
    code, lines = fetch(capsys, share, "--bundle", "a")
    assert (code, lines) == (0, ["a/models/model.pt: already there", "a/models/model.json: already there"])


def test_found_by_content_under_other_names(bundles, share, capsys):
    (share / "b" / "models").rename(share / "old")
    (share / "old" / "model.pt").rename(share / "best weights.bin")
    assert fetch(capsys, share)[0] == 0
    assert placed(bundles) == ALL


@pytest.mark.parametrize(
    "names",
    [
        ("model.pt.part-aa", "model.pt.part-ab", "model.pt.part-ac"),
        ("model.pt.aa", "model.pt.ab", "model.pt.ac"),
        ("model.pt.00", "model.pt.01", "model.pt.02"),
    ],
)
def test_parts_are_joined(bundles, share, capsys, names):
    whole = share / "a" / "models" / "model.pt"
    content = whole.read_bytes()
    whole.unlink()
    for number, name in enumerate(names):
        whole.with_name(name).write_bytes(content[number * 5000 : (number + 1) * 5000])
    code, lines = fetch(capsys, share, "--bundle", "a")
    assert code == 0
    assert lines[0] == "a/models/model.pt: placed, from a/models/model.pt, joined of 3 parts"
    assert (bundles / "a" / "models" / "model.pt").read_bytes() == WEIGHTS["a"]
    # a part is missing: said, and nothing placed
    (bundles / "a" / "models" / "model.pt").unlink()
    whole.with_name(names[1]).unlink()
    code, lines = fetch(capsys, share, "--bundle", "a")
    assert code == 1
    assert lines[0] == f"{whole}: expected 12,000 bytes, found 7,000; ask for the file again, it was not placed"
    assert not list(bundles.rglob("*model.pt"))


@pytest.mark.parametrize("fault", ["one byte", "too short"])
def test_a_wrong_file_is_refused_and_the_others_are_placed(bundles, share, capsys, fault):
    wrong = share / "a" / "models" / "model.pt"
    content = wrong.read_bytes()
    wrong.write_bytes(b"X" + content[1:] if fault == "one byte" else content[:-1])
    code, lines = fetch(capsys, share)
    assert code == 1
    expected = {
        "one byte": f"expected SHA-256 {hashlib.sha256(content).hexdigest()[:16]}..., found "
        f"{hashlib.sha256(wrong.read_bytes()).hexdigest()[:16]}...",
        "too short": "expected 12,000 bytes, found 11,999",
    }[fault]
    assert lines[0] == f"{wrong}: {expected}; ask for the file again, it was not placed"
    assert placed(bundles) == {name: content for name, content in ALL.items() if name != "a/models/model.pt"}
    assert not list(bundles.rglob(".partial-*"))


def test_other_weights_are_kept_unless_asked_and_then_too(bundles, share, capsys):
    models = bundles / "a" / "models"
    (models / "model.pt").write_bytes(b"my own")
    (models / "model.json").write_bytes(b"of my own")
    code, lines = fetch(capsys, share, "--bundle", "a")
    assert code == 1
    assert lines[0].startswith("a/models/model.pt: another file is in its place, expected SHA-256 ")
    assert lines[0].endswith("; --replace puts the listed one there and keeps the other as previous_model.pt")
    assert (models / "model.pt").read_bytes() == b"my own" and (models / "model.json").read_bytes() == b"of my own"
    code, lines = fetch(capsys, share, "--bundle", "a", "--replace")
    assert code == 0
    assert lines[0].endswith("; before: previous_model.pt, previous_model.json")
    assert {p.name: p.read_bytes() for p in models.iterdir()} == {
        "model.pt": WEIGHTS["a"], "model.json": SIDECAR + b"a",
        "previous_model.pt": b"my own", "previous_model.json": b"of my own",
    }  # fmt: skip


def test_weights_never_stand_beside_the_sidecar_of_others(bundles, share, capsys):
    models = bundles / "a" / "models"
    (models / "model.pt").write_bytes(b"my own")
    (models / "model.json").write_bytes(b"of my own")
    (share / "a" / "models" / "model.json").unlink()
    code, lines = fetch(capsys, share, "--bundle", "a", "--replace")
    assert code == 1
    assert lines[1].startswith(f"a/models/model.json: not found in {share}, neither by its path nor by SHA-256 ")
    assert not (models / "model.json").exists()
    assert (models / "previous_model.json").read_bytes() == b"of my own"


def test_what_changes_while_it_is_copied_is_not_placed(bundles, share, capsys, monkeypatch):
    blocks = large_files._blocks
    times = []

    def twice(parts):
        times.append(parts)
        yield from blocks(parts)
        if len(times) > 1:
            yield b"more"

    monkeypatch.setattr(large_files, "_blocks", twice)
    code, lines = fetch(capsys, share, "--bundle", "a")
    assert code == 1 and "changed while it was copied" in lines[0]
    assert not list(bundles.rglob("*model.pt"))


def test_a_folder_that_cannot_be_written_is_a_line(bundles, share, capsys):
    (bundles / "a" / "models").rmdir()
    (bundles / "a" / "models").write_text("no folder")
    code, lines = fetch(capsys, share)
    assert code == 1 and "a/models/model.pt: cannot be written (" in lines[0]
    assert "b/models/model.pt: placed, from b/models/model.pt" in lines


def test_what_is_wanted_and_what_is_there(bundles, share, capsys):
    (bundles / "a" / "models" / "model.pt").write_bytes(b"my own")
    fetch(capsys, share, "--bundle", "b")
    assert main(["fetch-weights", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    digest = hashlib.sha256(WEIGHTS["b"]).hexdigest()
    assert lines[0].startswith("a/models/model.pt: another file, 12,000 bytes, SHA-256 ")
    assert lines[1].startswith("a/models/model.json: missing, ")
    assert lines[2] == f"b/models/model.pt: there, 12,000 bytes, SHA-256 {digest}"
    assert lines[4] == "c: lists no weights; train it, or see its card"


def test_monais_command_reads_the_list(bundles, share, capsys):
    """It checks what is in place; an empty list is nothing to do."""
    fetch(capsys, share)
    for name in ("a", "b", "c"):
        download_large_files(str(bundles / name))
    (bundles / "a" / "models" / "model.pt").write_bytes(b"X" + WEIGHTS["a"][1:])
    with pytest.raises(HashCheckError):
        download_large_files(str(bundles / "a"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--from", "nowhere"], "--from nowhere: there is no such folder"),
        (["--write"], "--write: name the bundle whose weights shall be listed"),
        (["--write", "--bundle", "c"], "holds no weights to list"),
        (["--list", "--bundle", "nothing"], "nothing: is no bundle"),
    ],
)
def test_faults_are_one_line(bundles, capsys, words, message):
    capsys.readouterr()
    assert main(["fetch-weights", *words]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": "../other/model.pt"}, "is outside the bundle"),
        ({"path": "/etc/passwd"}, "is outside the bundle"),
        ({"hash_val": "12ab"}, "is no SHA-256"),
        ({"hash_type": "md5"}, "is no SHA-256"),
        ({"size": "many"}, "is no list of large files"),
    ],
)
def test_a_list_that_cannot_be_meant_is_refused(tmp_path, change, message):
    entry = {"path": "models/model.pt", "hash_val": 64 * "0", "hash_type": "sha256", "size": 3}
    (tmp_path / "large_files.yml").write_text(json.dumps({"large_files": [entry | change]}))
    with pytest.raises(UserError, match=message):
        read_list(tmp_path)


@pytest.mark.parametrize("bundle", sorted(path.parent.name for path in BUNDLES.glob("*/large_files.yml")))
def test_the_repositorys_lists_were_written_by_the_command(bundle):
    path = BUNDLES / bundle / "large_files.yml"
    entries = read_list(BUNDLES / bundle)
    assert path.read_text() == text_of(entries)
    assert all(entry.size for entry in entries)
