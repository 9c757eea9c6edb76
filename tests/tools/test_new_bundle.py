"""``python -m tools new-bundle``: on a copy of the template."""

import json
import shutil

import pytest

from common.bundle import BUNDLES
from common.runtime.template import differences
from tools.__main__ import main


@pytest.fixture
def bundles(tmp_path, monkeypatch):
    shutil.copytree(BUNDLES / "mmi_unet", tmp_path / "mmi_unet", ignore=shutil.ignore_patterns("runs", "eval", "*.pt"))
    monkeypatch.setattr("common.runtime.template.BUNDLES", tmp_path)
    return tmp_path


def test_a_bundle_is_made_and_what_to_change_is_said(bundles, capsys):
    assert main(["new-bundle", "film"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{bundles / 'film'}: a copy of the template that trains as it is\n")
    assert "network_def, loss, optimizer" in said and "docs/adding-a-method.md" in said
    assert differences(bundles / "film", bundles / "mmi_unet") == []
    for name in ("train", "inference"):
        content = json.loads((bundles / "film" / "configs" / f"{name}.json").read_text())
        assert content["bundle_root"] == "$_root('film')"
    card = (bundles / "film" / "docs" / "README.md").read_text()
    assert "bundles/mmi_unet" not in card and "--bundle bundles/film" in card


@pytest.mark.parametrize(("name", "words"), [("mmi_unet", "is there already"), ("../film", "small letters")])
def test_faults_are_one_line_and_write_nothing(bundles, capsys, name, words):
    assert main(["new-bundle", name]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and words in err and err.count("\n") == 1
    assert [path.name for path in bundles.iterdir()] == ["mmi_unet"]
