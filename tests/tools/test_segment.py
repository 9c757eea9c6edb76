"""``python -m tools segment``: options, exit codes, what it prints and logs; what is written is tested by its room."""

import contextlib
import json
import os
import shutil
import signal
import time

import numpy as np
import pytest
from PIL import Image

import tools.segment as module
from common.batch.job import Processing
from common.images import write_radiograph
from common.runtime.model import Model
from tests.common.batch.conftest import bright_bundle
from tests.common.batch.runs import PICTURE, forked, rows, tree
from tools.__main__ import main


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    return {name: bright_bundle(folder / name, takes_text=name == "text") for name in ("text", "plain")}


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(PICTURE).save(folder / "a.png")
    write_radiograph(folder / "b.dcm", PICTURE)
    return folder


@pytest.fixture
def run(bundles, images):
    """Run the command; its exit code."""

    def command(*more, bundle="plain"):
        given = ["segment", "--bundle", str(bundles[bundle]), "--input", str(images), "--output",
                 str(images.parent / "out"), "--device", "cpu", "--workers", "0"]  # fmt: skip
        return main([*given, *map(str, more)])

    return command


def test_exit_codes_and_summary(run, images, capsys):
    out = images.parent / "out"
    assert run() == 0
    said = capsys.readouterr().out
    assert said.startswith("2 of 2 files segmented, 2 with a lesion\n")
    assert f"masks       {out / 'masks'}\n" in said
    (images / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (images / "notes.txt").write_text("notes")
    assert run() == 1
    said = capsys.readouterr().out
    assert "2 of 3 files segmented" in said
    assert "1 failed: " in said
    assert "note: 1 other files were left out: they are no images" in said
    for name in ("a.png", "b.dcm"):
        (images / name).unlink()
    shutil.rmtree(out)
    assert run() == 2


def test_nothing_to_segment(run, images, capsys):
    for path in images.iterdir():
        path.unlink()
    assert run() == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {images}: holds no image (DICOM, PNG, JPEG")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--output", "{in}"], "the images are in this folder, and masks written here would be segmented too"),
        (["--output", "{in}/.."], "the images are in this folder, and masks written here would be segmented too"),
        (["--input", "{in}/none"], "there is no such folder"),
        (["--device", "nonsense"], "device nonsense: is not there; write cpu"),
        (["--device", "cpu');print('pasted"], "is not there; write cpu"),
        (["--text", "left lung"], "whose left does it mean? Give --laterality patient"),
        (["--prompts", "{in}/none.csv"], "none.csv"),
        (["--include", "everything"], "everything"),
        (["--batch-size", "0"], "--batch-size 0: is no number from 1; write one, or auto"),
        (["--batch-size", "many"], "--batch-size many: is no number from 1; write one, or auto"),
        (["--workers", "-1"], "--workers -1: is no number from 0; write one, or auto"),
        (["--threads", "-1"], "--threads -1: is no number from 0"),
        (["--watch", "-1"], "--watch -1.0: is no number of seconds"),
        (["--watch", "nan"], "--watch nan: is no number of seconds"),
        (["--weights", "{in}/none.pt"], "none.pt"),
        (["--bundle", "{in}/none"], "none"),
        (["--pseudonymise", "{in}/none"], "cannot be read"),
        (["--pseudonymise", "{in}/a.png", "--seg", "binary"], "leave out --seg and --secondary-capture"),
        (["--pseudonymise", "{in}/a.png", "--secondary-capture"], "leave out --seg and --secondary-capture"),
        (["--log", "{in}/none/log"], "cannot be written (No such file or directory); name another file as --log"),
        (["--config", "{in}/none.yaml"], "cannot be read"),
    ],
)
def test_refusals_are_one_line_and_write_nothing(more, words, run, images, capsys):
    before = sorted(images.parent.rglob("*"))
    assert run(*(word.replace("{in}", str(images)) for word in more)) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ")
    assert words in said.err
    assert said.err.count("\n") == 1
    assert "pasted" not in said.out
    assert sorted(images.parent.rglob("*")) == before


def test_a_slip_that_was_mended_goes_on_in_the_same_folder(run, images, capsys):
    assert run("--weights", images / "a.png") == 2
    assert "a.png: not a readable file of weights" in capsys.readouterr().err
    assert run() == 0


def test_an_output_inside_the_input_is_not_segmented_again(run, images):
    for _ in range(2):
        assert run("--output", images / "out") == 0
    assert list(rows(images / "out")) == ["a.png", "b.dcm"]


def test_a_changed_option_is_one_line_and_restart_begins_anew(run, images, capsys):
    assert run() == 0
    assert run("--seg", "binary", "--no-overlays") == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: ")
    assert "holds the results of another command (pictures, seg differ); give another --output, or --restart" in said
    assert run("--seg", "binary", "--no-overlays", "--restart") == 0
    out = images.parent / "out"
    assert not (out / "overlays").exists()
    assert (out / rows(out)["b.dcm"]["seg"]).is_file()


def test_dry_run_writes_nothing(run, images, capsys):
    write_radiograph(images / "c.dcm", PICTURE, view="LL")
    write_radiograph(images / "d.dcm", PICTURE, patient_orientation=("A", "F"))
    before = sorted(images.parent.rglob("*"))
    assert run("--dry-run", "--text", "flurb", "--laterality", "patient", "--include", "lateral") == 0
    said = capsys.readouterr().out
    assert said.startswith("4 of 4 files would be segmented; 0 others are no images\n")
    assert "included although: " in said
    assert "4 sentences from: option" in said
    assert "4 sentences cannot be read; python -m tools parse shows why" in said
    assert run("--dry-run") == 1
    assert "2 of 4 files would be segmented" in capsys.readouterr().out
    for name in ("a.png", "b.dcm"):
        (images / name).unlink()
    assert run("--dry-run") == 2
    left = sorted(images.parent.rglob("*"))
    assert left == [path for path in before if path.name not in ("a.png", "b.dcm")]


def test_config_file_and_the_command_line_over_it(bundles, images, capsys, tmp_path):
    path, out = tmp_path / "segment.yaml", tmp_path / "out"
    path.write_text(
        f"bundle: {bundles['text']}\ninput: {images}\noutput: {out}\nworkers: 0\ndevice: cpu\nseg: off\n"
        f"no-prompt: default\nbatch_size: 1\ntext: Opacity in the left lung.\nlaterality: patient\ninclude: lateral\n"
    )
    assert main(["segment", "--config", str(path), "--laterality", "image", "--seg", "binary"]) == 0
    found = rows(out)
    assert {row["prompt_laterality"] for row in found.values()} == {"image"}
    assert found["b.dcm"]["seg"]
    command = json.loads((out / ".work" / "command.json").read_text())
    assert (command["batch_size"], command["include"], command["no_prompt"]) == (1, ["lateral"], "default")
    assert "error" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("imput: x", "knows no option 'imput'; one of backend, batch-size, bundle,"),
        ("no-prompt: maybe", "no-prompt is maybe; one of skip, default"),
        ("seg: on", "seg is True; one of off, binary, fractional"),
        ("dry-run: 1", "dry-run is 1; write true or false"),
        ("threads: two", "threads is two; write a number"),
        ("threads: true", "threads is True; write a number"),
        ("watch: auto", "watch is auto; write a number"),
        ("batch-size: [1]", "batch-size is [1]; write a number"),
        ("text: 2020-01-01", "text is 2020-01-01; write it in quotes"),
        ("text: [a, b]", "text is ['a', 'b']; write it in quotes"),
        ("device:", "device is None; write it in quotes"),
        ("include: [1]", "include is [1]; write words"),
        ("- a", "is no list of options; write lines 'option: value'"),
        ("a: b: c", "is no YAML"),
        ("\x00", "is no YAML"),
        ("workers: -2", "--workers -2: is no number from 0"),
        ("bundle: ''", "--bundle is not given; add it to the command or to the file of --config"),
    ],
)
def test_config_files_with_a_fault_are_one_line(line, words, bundles, images, capsys, tmp_path):
    path = tmp_path / "segment.yaml"
    path.write_text(line + "\n")
    given = ["segment", "--config", str(path), "--input", str(images), "--output", str(tmp_path / "out")]
    if "bundle" not in line:
        given += ["--bundle", str(bundles["plain"])]
    assert main(given) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert words in said
    assert said.count("\n") == 1


def test_version(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("chest-refseg ")


def test_log_and_what_is_printed_hold_no_names_and_no_sentences(run, images, capsys, tmp_path, monkeypatch):
    name, words = "Canaria", "zwitscher"
    for number, ending in enumerate(("png", "x.png", "dcm")):
        (images / f"{name}{number}.{ending}").write_bytes(b"\x89PNG\r\n\x1a\n" if number else b"")
    write_radiograph(images / f"{name}.dcm", PICTURE)
    (images / f"{name}-twice.dcm").write_bytes((images / f"{name}.dcm").read_bytes())
    Image.fromarray(PICTURE).save(images / f"{name}.png")
    Image.fromarray(PICTURE).save(images / f"{name}-odd.png")
    table = tmp_path / "prompts.csv"
    lines = [f"a.png,{words} blorp", f'{name}.png,"Opacity in the right lung, {words}."', f"{name}-gone.png,{words}"]
    table.write_text("\n".join(["image,text", *lines]))
    real = Processing.prepare

    def odd(self, path, *args):
        if "odd" in path.name:
            raise RuntimeError(f"{path}: {words}")
        return real(self, path, *args)

    monkeypatch.setattr(Processing, "prepare", odd)
    log = tmp_path / "segment.log"
    for _ in range(2):
        assert run("--prompts", table, "--laterality", "patient", "--no-prompt", "default", "--log", log,
                   bundle="text") == 1  # fmt: skip
    said = capsys.readouterr()
    written = log.read_text()
    lines = [json.loads(line) for line in written.splitlines()]
    assert {line["level"] for line in lines} == {"info", "error"}
    assert all(line.keys() >= {"time", "level", "event"} for line in lines)
    assert sum(line["event"] == "batch done" for line in lines) >= 1
    assert [line["where"].split(" at ")[0] for line in lines if "where" in line] == ["RuntimeError"]
    assert "note: 1 sentences belong to no image" in said.out
    # the test could fail: the table has both
    table = (images.parent / "out" / "results.csv").read_text()
    for secret in (name, words, "blorp"):
        assert secret in table
        for place in (written, said.out, said.err):
            assert secret not in place, secret


def test_pseudonymise_by_the_command(run, images, tmp_path, capsys):
    key = tmp_path / "key"
    key.write_text("a secret of some length\n")
    (images / "Mustermann.png").write_bytes((images / "a.png").read_bytes())
    assert run("--pseudonymise", key) == 0
    out = images.parent / "out"
    assert not [path for path in out.rglob("*") if "Mustermann" in path.name]
    assert "Mustermann" not in (out / "results.csv").read_text() + capsys.readouterr().out
    before = tree(out)
    key.write_text("another secret of some length\n")
    assert run("--pseudonymise", key) == 2
    assert "(input, prompts, pseudonyms differ)" in capsys.readouterr().err
    assert tree(out) == before


def wait_for(found, seconds=120.0):
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)


def many(images, count):
    for number in range(count):
        Image.fromarray(np.roll(PICTURE, number, 1)).save(images / f"{number:03}.png")


def interrupted(run, images, number, pause=0.0, times=1):
    """The exit code of a run that gets a signal once it has written a mask; with what it printed."""
    out, said = images.parent / "out", images.parent / "said"

    def child():
        with said.open("w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
            if os.fork() == 0:
                wait_for(lambda: len(list(out.glob("masks/*.png"))) > 0)
                time.sleep(pause)
                for _ in range(times):
                    os.kill(os.getppid(), number)
                    time.sleep(0.05)
                os._exit(0)
            return run("--batch-size", "1")

    code = forked(child)
    return code, said.read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_the_batches_begun(run, images, number):
    many(images, 30)
    out = images.parent / "out"
    code, said = interrupted(run, images, number)
    assert code == 3, said
    assert "stopping after the batches that are begun; once more stops at once" in said
    assert "stopped; the same command goes on where this one ended" in said
    assert "Traceback" not in said
    first = len(rows(out))
    assert 0 < first < 32
    assert len(list(out.glob("masks/*.png"))) == first
    assert run("--batch-size", "1") == 0
    assert len(rows(out)) == 32
    assert run("--batch-size", "1", "--output", images.parent / "unbroken") == 0
    assert tree(out) == tree(images.parent / "unbroken")


def test_a_second_signal_ends_it_at_once(run, images, monkeypatch):
    many(images, 30)
    real = Model.logits

    def slow(self, prepared):
        time.sleep(1.5)
        return real(self, prepared)

    monkeypatch.setattr(Model, "logits", slow)
    code, said = interrupted(run, images, signal.SIGINT, pause=0.7, times=2)  # both while the network is at work
    assert code == 3
    assert said.splitlines()[-1] == "stopped at once"
    assert "Traceback" not in said


def test_watch_takes_what_comes(run, images, monkeypatch):
    monkeypatch.setattr(module, "SETTLED", 0.05)
    out = images.parent / "out"
    old = time.time() - 1000

    def later():
        if os.fork() == 0:
            wait_for(lambda: (out / "report.html").exists())
            fresh = images / ".c.part"
            Image.fromarray(PICTURE).save(fresh, format="png")
            os.utime(fresh, (old, old))
            fresh.rename(images / "c.png")
            wait_for(lambda: "c.png" in (out / "results.csv").read_text())
            os.kill(os.getppid(), signal.SIGINT)
            os._exit(0)
        return run("--watch", "0.05")

    assert forked(later) == 0
    assert list(rows(out)) == ["a.png", "b.dcm", "c.png"]


def test_an_output_that_goes_away_is_one_line_and_code_3(run, images, capsys):
    many(images, 3)
    out = images.parent / "out"
    real = Model.logits

    def gone(self, prepared):
        shutil.rmtree(out)
        return real(self, prepared)

    Model.logits = gone
    try:
        assert run() == 3
    finally:
        Model.logits = real
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == (
        f"stopped: {out}: is gone; mend it (space, permission, mount) and run the same command again: "
        f"what is there is kept"
    )
    assert run() == 0


@pytest.mark.parametrize("bundle", ["mmi_unet", "unet"])
def test_bundles_of_this_repository(bundle, weights, images, capsys):
    write_radiograph(images / "c.dcm", PICTURE, patient_orientation=("A", "F"))
    write_radiograph(images / "d.dcm", PICTURE, patient_orientation=None)
    out = images.parent / "out"
    given = ["segment", "--bundle", bundle, "--overlay", "demo", "--device", "cpu", "--input", str(images), "--output",
             str(out), "--workers", "0", "--no-prompt", "default"]  # fmt: skip
    assert main([*given, "--weights", str(weights / f"{bundle}.pt"), "--text", "  ", "--include", "lateral"]) == 0
    found = rows(out)
    default = "no sentence: the default one, which asserts disease everywhere, was used"
    lateral, unknown = found["c.dcm"], found["d.dcm"]
    assert "lateral view: sides are not known" in lateral["warnings"]
    assert "lateral" in lateral["included"]
    assert "no orientation in the file: taken as displayed, sides are not known" in unknown["warnings"]
    assert {row["mask_sides"] + row["mask_zones"] for row in (lateral, unknown)} == {""}
    takes_text = bundle == "mmi_unet"
    assert {row["prompt_used"] for row in found.values()} == {"default" if takes_text else "not used"}
    assert all((default in row["warnings"]) is takes_text for row in found.values())
    assert "4 of 4 files segmented" in capsys.readouterr().out
    other = "unet" if takes_text else "mmi_unet"
    assert main([*given, "--weights", str(weights / f"{other}.pt"), "--restart"]) == 2
    assert f"{other}.pt: these weights do not fit" in capsys.readouterr().err
    assert rows(out).keys() == found.keys()
