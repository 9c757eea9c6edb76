"""A run that is killed, stopped, or started again on a folder that changed."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from multiprocessing import forkserver
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.batch.job import OutputLost
from common.batch.run import Run
from common.errors import UserError
from tests.common.batch.runs import PICTURE, ROOT, forked, go, like, rows, settings, silent, tree, write_slices


@pytest.fixture
def root(tmp_path):
    """Slices of a CT series, pictures, and a bad file."""
    folder = tmp_path / "in"
    write_slices(folder / "scan")
    for number in range(3):
        Image.fromarray(np.roll(PICTURE, number, 1)).save(folder / f"{number}.png")
    (folder / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


@pytest.fixture(scope="module")
def bundle(bright, tmp_path_factory):
    return like(bright, tmp_path_factory.mktemp("ct") / "bundle", modality="CT")


ASKED = {"options": {"seg": "fractional"}, "batch_size": 2}


@pytest.fixture
def unbroken(tmp_path, root, bundle):
    """What a run writes that nothing disturbs."""
    out = tmp_path / "unbroken"
    assert go(bundle, root, out, **ASKED).code == 1
    return tree(out)


def killed(bundle, root, out, after, **more):
    """A run that is killed ``after`` so many beginnings and ends of a file; the signal, or its exit code."""

    def run():
        left, real = after, Path.replace

        def step():
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

        def replace(self, target):
            step()
            made = real(self, target)
            step()
            return made

        Path.replace = replace
        return go(bundle, root, out, **ASKED | more).code

    return forked(run)


def resumed_everywhere(bundle, root, unbroken, tmp_path, step):
    """Kill a run at every ``step``-th moment, go on, and compare; how many moments there are."""
    for after in range(0, 1000, step):
        out = tmp_path / f"out{after}"
        end = killed(bundle, root, out, after)
        if end == 1:
            return after
        assert end == -signal.SIGKILL
        assert go(bundle, root, out, **ASKED).code == 1
        assert tree(out) == unbroken, after
    raise AssertionError("a run without an end")


def test_killed_between_any_two_files(bundle, root, unbroken, tmp_path):
    assert resumed_everywhere(bundle, root, unbroken, tmp_path, 17) > 60


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_killed_before_and_after_each_file(bundle, root, unbroken, tmp_path):
    assert resumed_everywhere(bundle, root, unbroken, tmp_path, 1) > 60


def test_killed_again_and_again(bundle, root, unbroken, tmp_path):
    """Each attempt gets a little further, since a batch that is done stays done."""
    out, attempts = tmp_path / "out", 0
    while (end := killed(bundle, root, out, 19)) != 1:
        assert end == -signal.SIGKILL
        attempts += 1
        assert attempts < 20
    assert attempts >= 3
    assert tree(out) == unbroken


@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_killed_while_the_plan_is_written(bundle, root, unbroken, tmp_path, after):
    out = tmp_path / "out"
    assert killed(bundle, root, out, after) == -signal.SIGKILL
    assert not list(out.glob(".work/done/*"))
    assert go(bundle, root, out, **ASKED).code == 1
    assert tree(out) == unbroken


def wait_for(found, seconds=240.0):
    """Until there is something."""
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)


def test_killed_with_its_workers(bundle, root, unbroken, tmp_path):
    """The whole group of processes, while a worker writes."""
    out = tmp_path / "out"
    child = os.fork()
    if child == 0:
        os.setsid()
        # the server of this process's workers is the parent's child
        forkserver._forkserver._forkserver_pid = forkserver._forkserver._forkserver_alive_fd = None
        with contextlib.suppress(BaseException):
            go(bundle, root, out, workers=1, **ASKED)
        os._exit(9)
    wait_for(lambda: list(out.glob("masks/*.png")))
    os.killpg(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert not (out / "results.csv").exists()
    assert go(bundle, root, out, **ASKED).code == 1
    assert tree(out) == unbroken


def command(bundle, root, out, *more):
    """The command in a process group of its own."""
    words = [sys.executable, "-m", "tools", "segment", "--bundle", str(bundle), "--input", str(root), "--output",
             str(out), "--seg", "fractional", "--batch-size", "2", "--device", "cpu", *more]  # fmt: skip
    return subprocess.Popen(words, cwd=ROOT, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True)  # fmt: skip


@pytest.mark.full
@pytest.mark.parametrize("workers", ["0", "1", "2"])
def test_the_command_killed_at_random_times(bundle, root, unbroken, tmp_path, workers):
    out, chance = tmp_path / "out", random.Random(int(workers))
    for _ in range(4):
        run = command(bundle, root, out, "--workers", workers)
        begun = set(out.rglob("*"))
        wait_for(lambda begun=begun, run=run: set(out.rglob("*")) - begun or run.poll() is not None)
        time.sleep(chance.random() * 0.5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        run.communicate()
    run = command(bundle, root, out, "--workers", workers)
    _, errors = run.communicate()
    assert run.returncode == 1, errors
    assert tree(out) == unbroken


@pytest.mark.full
def test_ctrl_c_ends_the_command_and_leaves_a_state_to_go_on_from(bundle, root, unbroken, tmp_path):
    """Pressed in a terminal, it reaches the workers too."""
    out = tmp_path / "out"
    for number in range(40):
        Image.fromarray(np.roll(PICTURE, number, 1)).save(root / f"more{number}.png")
    run = command(bundle, root, out, "--workers", "1")
    wait_for(lambda: list(out.glob("masks/*.png")) or run.poll() is not None)
    os.killpg(run.pid, signal.SIGINT)
    said, errors = run.communicate()
    assert run.returncode == 3, errors
    assert "stopping after the batches that are begun" in errors
    assert "Traceback" not in errors
    assert "stopped; the same command goes on where this one ended" in said
    written = len(rows(out))
    assert 0 < written < 49
    assert sum(bool(row["mask"]) for row in rows(out).values()) == len(list(out.glob("masks/**/*.png")))
    run = command(bundle, root, out, "--workers", "1")
    _, errors = run.communicate()
    assert run.returncode == 1
    assert "going on with what an earlier run began" in errors
    assert len(rows(out)) == 49


def test_one_run_at_a_time(bundle, root, tmp_path):
    out = tmp_path / "out"
    inside = []

    def again():
        if not inside:
            with pytest.raises(UserError, match="another run is writing here") as found:
                go(bundle, root, out, **ASKED)
            inside.append(str(found.value))
        return False

    assert go(bundle, root, out, stopping=again, **ASKED).code == 1
    assert len(inside) == 1
    assert "\n" not in inside[0]


def test_another_command_is_refused_and_restart_begins_anew(bundle, root, unbroken, tmp_path):
    out = tmp_path / "out"
    go(bundle, root, out, batch_size=2)
    before = tree(out)
    with pytest.raises(UserError, match=r"holds the results of another command \(seg differ\)"):
        go(bundle, root, out, **ASKED)
    with pytest.raises(UserError, match=r"\(batch_size, prompts differ\)"):
        go(bundle, root, out, batch_size=3, text="Opacity in the left lung.", laterality="patient")
    assert tree(out) == before
    assert go(bundle, root, out, restart=True, **ASKED).code == 1
    assert tree(out) == unbroken
    # a slip that ends a command before it did anything is no other command
    with pytest.raises(UserError, match="device nonsense"):
        go(bundle, root, tmp_path / "other", device="nonsense", **ASKED)
    assert go(bundle, root, tmp_path / "other", **ASKED).code == 1


def times(out):
    return {path: path.stat().st_mtime_ns for path in Path(out).glob("masks/**/*.png")}


def test_new_files_are_done_and_the_others_kept(bundle, root, tmp_path):
    out = tmp_path / "out"
    go(bundle, root, out, **ASKED)
    before, listed = times(out), list(rows(out))
    Image.fromarray(PICTURE).save(root / "0a.png")
    said = []
    assert go(bundle, root, out, said=said.append, **ASKED).counts["all"] == 10
    assert said == ["going on with what an earlier run began"]
    assert {path: time for path, time in times(out).items() if path in before} == before
    assert list(rows(out)) == [*listed, "0a.png"]


def test_a_file_that_changed_is_done_again_and_keeps_nothing_old(bundle, root, tmp_path):
    out = tmp_path / "out"
    go(bundle, root, out, **ASKED)
    before, places = rows(out), {name: row["mask"] for name, row in rows(out).items()}
    Image.fromarray(np.roll(PICTURE, 9, 1)).save(root / "0.png")
    (root / "1.png").write_bytes(b"\x89PNG\r\n\x1a\nnow bad")
    Image.fromarray(PICTURE).save(root / "bad.png")
    go(bundle, root, out, **ASKED)
    found = rows(out)
    assert found.keys() == before.keys()
    assert np.array_equal(np.asarray(Image.open(out / found["0.png"]["mask"])) > 0, np.roll(PICTURE, 9, 1) > 0)
    assert found["0.png"]["sha256"] != before["0.png"]["sha256"]
    assert (found["1.png"]["status"], found["1.png"]["mask"], found["1.png"]["overlay"]) == ("failed", "", "")
    assert not (out / places["1.png"]).exists()
    assert not (out / before["1.png"]["overlay"]).exists()
    assert found["bad.png"]["status"] == "done"


def test_a_file_that_vanished_before_its_turn_and_came_back(bundle, root, tmp_path):
    out = tmp_path / "out"
    asked = iter([False, True])
    go(bundle, root, out, stopping=lambda: next(asked, True), **ASKED)
    (root / "2.png").rename(tmp_path / "2.png")
    assert go(bundle, root, out, **ASKED).code == 1
    row = rows(out)["2.png"]
    assert (row["status"], row["reason"]) == ("refused", "was there when the run began, and is gone")
    # what is done stays done
    (root / "0.png").unlink()
    assert go(bundle, root, out, **ASKED).counts["all"] == 9
    assert rows(out)["0.png"]["status"] == "done"
    (tmp_path / "2.png").rename(root / "2.png")
    go(bundle, root, out, **ASKED)
    assert rows(out)["2.png"]["status"] == "done"


def test_a_file_whose_rights_were_mended_is_done(bundle, root, tmp_path, monkeypatch):
    """As root everything may be read, so the refusal is made up; the change of rights is real."""
    import common.batch.run as module

    out, real = tmp_path / "out", module.find

    def refusing(*args, **more):
        search = real(*args, **more)
        return type(search)([type(one)(one.path, one.name, refused="no permission") for one in search.found], 0)

    monkeypatch.setattr(module, "find", refusing)
    assert go(bundle, root, out, **ASKED).code == 2
    monkeypatch.setattr(module, "find", real)
    assert go(bundle, root, out, **ASKED).code == 2
    (root / "0.png").chmod(0o600)
    go(bundle, root, out, **ASKED)
    assert rows(out)["0.png"]["status"] == "done"


def test_a_file_that_is_still_being_copied_waits(bundle, root, tmp_path):
    out, soon = tmp_path / "out", time.time() - 100
    for path in root.rglob("*.*"):
        os.utime(path, (soon, soon))
    for name, age in (("0.png", 2), ("1.png", -2)):
        os.utime(root / name, (time.time() - age,) * 2)
    assert go(bundle, root, out, settled=60.0, **ASKED).counts["all"] == 7
    os.utime(root / "0.png", (soon, soon))
    assert go(bundle, root, out, settled=60.0, **ASKED).counts["all"] == 8


def test_an_output_that_is_taken_away_ends_the_run(bundle, root, unbroken, tmp_path):
    out, asked = tmp_path / "out", iter(range(100))

    def stopping():
        if next(asked) == 2:
            out.rename(tmp_path / "away")
        return False

    with pytest.raises(
        OutputLost, match=r"out: is gone; mend it \(space, permission, mount\) and run the same"
    ) as lost:
        go(bundle, root, out, stopping=stopping, **ASKED)
    assert "\n" not in str(lost.value)
    assert not out.exists()  # it is not made anew, as if nothing had been done before
    # mounted again it goes on; else the run begins anew
    (tmp_path / "away").rename(out)
    kept = times(out)
    assert kept
    assert go(bundle, root, out, **ASKED).code == 1
    assert tree(out) == unbroken
    assert {path: time for path, time in times(out).items() if path in kept}.items() & kept.items()


def test_commands_hold_no_secrets(bundle, root, tmp_path):
    out = tmp_path / "out"
    go(bundle, root, out, options={"key": b"0123456789abcdef"}, text="Opacity, canary.", laterality="patient")
    kept = (out / ".work" / "command.json").read_text()
    assert "canary" not in kept
    assert "0123456789abcdef" not in kept
    assert str(root) not in kept
    assert json.loads(kept)["pseudonyms"]


def test_watching_does_what_is_new_and_nothing_else(bundle, root, tmp_path):
    out, bars = tmp_path / "out", []
    (tmp_path / "later.png").write_bytes((root / "0.png").read_bytes())

    def bar(total, done):
        bars.append((total, done))
        return silent(total, done)

    run = Run(settings(bundle, root, out, restart=True, **ASKED))
    first = run.go(bar)
    written = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.suffix}
    assert run.go(bar) is first
    # neither the tables nor, though --restart was asked for, anything else
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.suffix} == written
    (tmp_path / "later.png").rename(root / "later.png")
    assert run.go(bar).counts["all"] == first.counts["all"] + 1
    assert bars == [(first.counts["all"], 0), (first.counts["all"] + 1, first.counts["all"])]
