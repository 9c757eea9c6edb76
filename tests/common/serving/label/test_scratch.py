"""Folders of requests, without MONAI Label."""

import asyncio
import os
import tempfile
from pathlib import Path

import pytest

from common.serving.label import scratch


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """This process uses it, until the test ends."""
    monkeypatch.setattr(tempfile, "gettempdir", tempfile.gettempdir)
    monkeypatch.setattr(tempfile, "tempdir", tempfile.tempdir)
    monkeypatch.setenv("TMPDIR", tempfile.gettempdir())
    (tmp_path / "tmp" / "request-of-yesterday").mkdir(parents=True)
    scratch.use(tmp_path / "tmp")
    assert list((tmp_path / "tmp").iterdir()) == []
    return tmp_path / "tmp"


def name_of_a_file():
    """As MONAI Label makes them: the file is gone, its name stays."""
    with tempfile.NamedTemporaryFile(suffix=".nii.gz") as file:
        return file.name


def ask(app, kind="http"):
    return scratch.Scratch(app)({"type": kind}, None, None)


def test_what_a_request_writes_is_gone_when_it_is_answered(folder):
    seen = []

    async def answer(*_):
        path = Path(name_of_a_file())
        path.touch()
        (Path(tempfile.mkdtemp()) / "patient").touch()
        seen.append(path.parent)
        # an upload, a conversion: whatever asks in a thread of this request
        seen.append(Path(await asyncio.to_thread(tempfile.mkdtemp)).parent)

    asyncio.run(ask(answer))
    assert len(set(seen)) == 1
    assert seen[0].parent == folder
    assert list(folder.iterdir()) == []
    assert tempfile.gettempdir() == os.environ["TMPDIR"] == str(folder)


def test_so_it_is_after_an_error(folder):
    async def fail(*_):
        Path(name_of_a_file()).touch()
        raise ValueError

    with pytest.raises(ValueError):
        asyncio.run(ask(fail))
    assert list(folder.iterdir()) == []


def test_requests_do_not_take_each_others(folder):
    async def answer(*_):
        own = Path(tempfile.mkdtemp())
        await asyncio.sleep(0.01 if len(found) == 0 else 0)
        found.append(own)
        assert own.is_dir()

    async def both():
        await asyncio.gather(ask(answer), ask(answer))

    found = []
    asyncio.run(both())
    assert len({path.parent for path in found}) == 2
    assert list(folder.iterdir()) == []


def test_what_was_left_before_the_first_request_is_cleared(folder):
    (folder / "logging.json").touch()
    scratch.clear()
    assert list(folder.iterdir()) == []
    assert tempfile.gettempdir() == str(folder)


def test_the_servers_own_life_has_no_folder(folder):
    async def life(*_):
        assert tempfile.gettempdir() == str(folder)

    asyncio.run(ask(life, "lifespan"))
