"""``python -m tools sync-bundles``: on copies of the template."""

import shutil

import pytest

from common.bundle import BUNDLES
from common.runtime.template import new_bundle
from tools.__main__ import main


@pytest.fixture
def changed(tmp_path, monkeypatch):
    """A configuration of a bundle in which a shared part was changed."""
    shutil.copytree(BUNDLES / "mmi_unet", tmp_path / "mmi_unet", ignore=shutil.ignore_patterns("runs", "eval", "*.pt"))
    for room in ("common.bundle", "common.runtime.template"):
        monkeypatch.setattr(f"{room}.BUNDLES", tmp_path)
    path = new_bundle("film") / "configs" / "train.json"
    path.write_text(path.read_text().replace('"val_interval": 1', '"val_interval": 5'))
    return path


def test_differences_are_said_and_with_check_alone_kept(changed, capsys):
    before = changed.read_text()
    assert main(["sync-bundles", "--check"]) == 1
    assert capsys.readouterr().out == ("film/configs/train.json val_interval: 5, in mmi_unet 1\n1 differences found\n")
    assert changed.read_text() == before


def test_differences_are_removed(changed, capsys):
    assert main(["sync-bundles"]) == 0
    assert capsys.readouterr().out.endswith("\n1 differences removed\n")
    assert '"val_interval": 1' in changed.read_text()
    assert main(["sync-bundles", "--check"]) == 0
    assert capsys.readouterr().out == "0 differences found\n"
