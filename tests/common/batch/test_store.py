"""What a run planned and did, names in the output folder, pseudonyms."""

import json

import pytest

from common.batch.naming import HEX, Pseudonyms, nameless, places, read_key, targets_of
from common.batch.store import Entry, Store
from common.errors import UserError


def entry(key, refused=False, size=1):
    return Entry(key, size, 0, f"{key}.png", refused)


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "out")
    yield made
    made.close()


def test_batches_are_fixed_and_refused_files_stand_where_they_come(store, tmp_path):
    entries = [entry(letter, refused=letter in "bcd") for letter in "abcdefg"]
    store.plan(entries, 2)
    store.plan([entry("h")], 2)
    expected = [(0, "abcde"), (1, "fg"), (2, "h")]
    assert [(number, "".join(one.key for one in batch)) for number, batch in store.batches()] == expected
    store.close()
    again = Store(tmp_path / "out")
    assert list(again.batches()) == list(store.batches())
    again.close()


def test_refused_files_in_a_row_make_batches_too(store):
    store.plan([entry(str(number), refused=True) for number in range(100)], 2)
    assert max(len(batch) for _, batch in store.batches()) == 16


def test_the_newest_row_of_a_source_counts(store):
    store.plan([entry("a"), entry("b")], 1)
    store.plan([entry("a", size=2)], 1)
    for number, key in enumerate("aba"):
        store.finish(number, [{"source": key, "n": number}], [{"decode": 1.0}])
    assert [row for row, _ in store.rows()] == [{"source": "b", "n": 1}, {"source": "a", "n": 2}]
    assert store.known()["a"].size == 2
    assert store.done(7) == ([], [])


def test_one_run_at_a_time(store, tmp_path):
    with pytest.raises(UserError, match=r"another run is writing here; wait for it or name another one"):
        Store(tmp_path / "out")
    store.close()
    Store(tmp_path / "out").close()


def test_a_folder_taken_away_or_replaced_is_lost(store, tmp_path):
    assert not store.lost()
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    assert store.lost()
    other = Store(tmp_path / "out")
    assert store.lost()
    assert not other.lost()
    other.close()


def test_another_command_is_refused_once_something_is_done(store, tmp_path):
    assert store.claim({"seg": "off", "device": "gpu"}) is False
    # nothing is done yet: a slip that is mended
    store.plan([entry("a")], 1)
    assert store.claim({"seg": "off", "device": "cpu"}) is False
    assert store.parts == []
    store.plan([entry("a")], 1)
    store.finish(0, [], [])
    assert store.claim({"seg": "off", "device": "cpu"}) is True
    words = r"out: holds the results of another command \(device, new, seg differ\); give another --output"
    with pytest.raises(UserError, match=words):
        store.claim({"seg": "binary", "new": 1})


def test_what_no_run_wrote_is_not_written_over(store, tmp_path):
    mask = tmp_path / "out" / "masks" / "a.png"
    mask.parent.mkdir()
    mask.write_text("a colleague's")
    store.clear()
    assert mask.exists()
    with pytest.raises(UserError, match="holds masks, which no run wrote"):
        store.claim({})


def test_restart_removes_what_a_run_wrote_and_nothing_else(store, tmp_path):
    out = tmp_path / "out"
    store.claim({"a": 1})
    store.plan([entry("a")], 1)
    store.finish(0, [], [])
    (out / "masks").mkdir()
    (out / "results.csv").touch()
    (out / "notes.txt").touch()
    store.clear()
    assert sorted(path.name for path in out.iterdir()) == [".work", "notes.txt"]
    assert sorted(path.name for path in (out / ".work").iterdir()) == ["done", "lock"]
    assert store.claim({"b": 1}) is False


def test_a_kill_while_clearing_leaves_nothing_that_seems_done(store, tmp_path, monkeypatch):
    """After each step of clearing, there is no batch done without what it wrote."""
    import common.batch.store as module

    out, real = tmp_path / "out", module._remove

    class Killed(BaseException):
        pass

    for last in range(12):
        store.clear()
        store.claim({"a": last})
        store.plan([entry("a")], 1)
        (out / "masks").mkdir()
        (out / "masks" / "a.png").touch()
        store.finish(0, [], [])
        steps = iter(range(last))

        def removed(path, steps=steps):
            if next(steps, None) is None:
                raise Killed
            real(path)

        monkeypatch.setattr(module, "_remove", removed)
        try:
            store.clear()
        except Killed:
            assert (out / "masks" / "a.png").exists() or not (out / ".work" / "done" / "00000000.json").exists()
        else:
            assert last > 5
        monkeypatch.setattr(module, "_remove", real)
        store.claim({"a": last})


def test_an_output_that_cannot_be_made(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UserError, match="out: cannot be written to"):
        Store(tmp_path / "out")


def test_names_of_masks_never_meet():
    names = ["a.dcm", "a.dcm.png", "a.PNG", "a.png", "b/a.png", "v.nii", "v.nii.gz", "v.mask.nii.gz.png"]
    assert list(targets_of(names, Pseudonyms(None)).values()) == [
        "a.dcm.png", "a-2.dcm.png", "a.PNG", "a-2.png", "b/a.png", "v.mask.nii.gz", "v-2.mask.nii.gz",
        "v-3.mask.nii.gz.png",
    ]  # fmt: skip


def test_names_of_later_files_do_not_meet_those_before():
    assert targets_of(["A.png"], Pseudonyms(None), ["a.png"]) == {"A.png": "A-2.png"}
    # nor does a file meet a folder
    assert targets_of(["c.bmp.png/a.png", "c.bmp"], Pseudonyms(None))["c.bmp"] == "c-2.bmp.png"


def test_places_are_all_different():
    assert len(set(places("a/b.dcm.png").values())) == 4
    assert places("a/b.PNG")["overlay"] == "overlays/a/b.jpg"


def test_pseudonyms_are_the_same_for_the_same_key():
    one, same, other = (Pseudonyms(key) for key in (b"k" * 16, b"k" * 16, b"o" * 16))
    assert one.name("Müller/1.dcm") == same.name("Müller/1.dcm") != other.name("Müller/1.dcm")
    assert one.name("Müller/1.dcm").endswith(".dcm")
    assert len(one.identifier("1.2.3")) == HEX
    assert one.identifier("") == ""
    assert one.name("Müller/anna.12345") == one.identifier("Müller/anna.12345")
    assert Pseudonyms(None).name("a.png") == "a.png"


def test_keys(tmp_path):
    path = tmp_path / "key"
    path.write_bytes(b"short\n")
    with pytest.raises(UserError, match="holds 5 bytes, a secret at least 16; openssl rand"):
        read_key(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_key(tmp_path / "none")
    path.write_bytes(b" 0123456789abcdef\n")
    assert read_key(path) == b"0123456789abcdef"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("its SOPInstanceUID is that of a/x.dcm, a slice stands once in a series; --include duplicate segments it",
         "its SOPInstanceUID is another's, a slice stands once in a series; --include duplicate segments it"),
        ("raw; its SOPInstanceUID is that of a; b.dcm", "raw; its SOPInstanceUID is another's"),
        ("named by x, not there/DICOMDIR, not there; copy it again",
         "named by a DICOMDIR, not there; copy it again"),
        ("lateral view", "lateral view"),
        ("RuntimeError: of Anna", "RuntimeError"),
        ("FOR PROCESSING: raw", "FOR PROCESSING: raw"),
    ],
)  # fmt: skip
def test_reasons_without_names(words, expected):
    assert nameless(words) == expected


def test_rows_of_any_text_come_back(store):
    row = {"source": "a\n\"'\u2028é\udcff", "reason": None}
    store.plan([entry(row["source"])], 1)
    store.finish(0, [row], [{}])
    assert [found for found, _ in store.rows()] == [row]
    assert json.loads((store.folder / "done" / "00000000.json").read_text())["rows"] == [row]
