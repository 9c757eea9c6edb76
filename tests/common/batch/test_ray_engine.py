"""The batches of a run on a local Ray cluster: the same bytes as without it, also when a worker is lost."""

import builtins
import contextlib
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.batch.job import OutputLost
from common.errors import UserError
from tests.common.batch.runs import PICTURE, go, rows, tree


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(24):
        Image.fromarray(np.roll(PICTURE, number, 1)).save(folder / f"{number:02}.png")
    (folder / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


@pytest.fixture(scope="module")
def cluster():
    """Two workers on this machine."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-ray.txt")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray
    ray.shutdown()


def test_without_ray_it_is_one_line(root, tmp_path, bright, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **more):
        if name == "ray":
            raise ImportError(name)
        return real(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match="Ray is not installed; pip install -r requirements-ray"):
        go(bright, root, tmp_path / "out", engine="ray")


@pytest.mark.full
def test_the_same_bytes_as_on_one_machine(cluster, root, tmp_path, bright):
    said = []
    assert go(bright, root, tmp_path / "ray", engine="ray", threads=1, batch_size=3, said=said.append).code == 1
    assert said == ["2 workers on 1 machines"]
    assert go(bright, root, tmp_path / "local", threads=1, batch_size=3).code == 1
    assert tree(tmp_path / "ray") == tree(tmp_path / "local")
    assert len(rows(tmp_path / "ray")) == 25


def at_work():
    """Processes of workers that have a batch: Ray writes the method into their name."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit() and (folder / "cmdline").read_bytes().startswith(b"ray::_Worker.run"):
                found.append(int(folder.name))
    return found


@pytest.mark.full
def test_a_lost_worker_costs_nothing(cluster, root, tmp_path, bright):
    """The process of one worker is killed while it has a batch."""
    out, killed = tmp_path / "ray", []

    def kill():
        end = time.monotonic() + 300
        while not killed and time.monotonic() < end:
            if list(out.glob(".work/done/*.json")) and (busy := at_work()):
                os.kill(busy[0], signal.SIGKILL)
                killed.append(busy[0])

    thread = threading.Thread(target=kill)
    thread.start()
    assert go(bright, root, out, engine="ray", threads=1, batch_size=2).code == 1
    thread.join()
    assert killed
    go(bright, root, tmp_path / "local", threads=1, batch_size=2)
    assert tree(out) == tree(tmp_path / "local")


@pytest.mark.full
def test_a_run_on_ray_that_was_stopped_goes_on(cluster, root, tmp_path, bright):
    out, asked = tmp_path / "ray", iter([False] * 4)
    outcome = go(bright, root, out, engine="ray", threads=1, batch_size=2, stopping=lambda: next(asked, True))
    assert outcome.code == 3
    assert 0 < len(rows(out)) < 25
    # and without Ray, since it is the same command
    assert go(bright, root, out, threads=1, batch_size=2).code == 1
    go(bright, root, tmp_path / "local", threads=1, batch_size=2)
    assert tree(out) == tree(tmp_path / "local")


@pytest.mark.full
def test_faults_of_the_output_and_the_cluster_are_one_line(cluster, root, tmp_path, bright):
    with pytest.raises(UserError, match="the cluster has no worker with 99 CPUs; lower --threads"):
        go(bright, root, tmp_path / "out", engine="ray", threads=99)
    out, asked = tmp_path / "lost", iter(range(100))

    def stopping():
        if next(asked) == 4:
            out.rename(tmp_path / "away")
        return False

    with pytest.raises(OutputLost, match="lost: is gone; mend it"):
        go(bright, root, out, engine="ray", threads=1, batch_size=1, stopping=stopping)
