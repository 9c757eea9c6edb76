import json
import logging

import pytest
from monai.bundle import ConfigParser, run

import common.bundle
from common import __version__
from common.bundle import bundle_folder, check_versions, configuration_files, required, root, running_config, weights
from common.errors import UserError, user_error


@pytest.fixture
def bundles(tmp_path, monkeypatch):
    """A folder of bundles with one, `mine`, and another working directory."""
    configs = tmp_path / "bundles" / "mine" / "configs"
    configs.mkdir(parents=True)
    (configs / "metadata.json").write_text(json.dumps({"name": "mine"}))
    (configs / "train.json").write_text("{}")
    monkeypatch.setattr(common.bundle, "BUNDLES", tmp_path / "bundles")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "bundles"


def test_root_from_anywhere(bundles, monkeypatch, tmp_path):
    assert root("mine") == str(bundles / "mine")
    # a copy of the bundle that is the working directory comes first
    copy = tmp_path / "copy" / "configs"
    copy.mkdir(parents=True)
    (copy / "metadata.json").write_text(json.dumps({"name": "mine"}))
    monkeypatch.chdir(copy.parent)
    assert root("mine") == str(copy.parent)
    with pytest.raises(UserError, match=r"bundle 'other' is neither the working directory nor .*--bundle_root DIR"):
        root("other")


def test_damaged_metadata_is_one_line(bundles):
    (bundles / "mine" / "configs" / "metadata.json").write_text("{")
    with pytest.raises(UserError, match=r"metadata\.json: is no JSON"):
        root("mine")


def test_versions(tmp_path, caplog):
    check_versions({"required_packages_version": {"chest-refseg": __version__}}, tmp_path)
    with pytest.raises(UserError, match=rf"needs chest-refseg 9\.9, installed is {__version__}"):
        check_versions({"required_packages_version": {"chest-refseg": "9.9"}}, tmp_path)
    with caplog.at_level(logging.WARNING):
        check_versions({"required_packages_version": {"numpy": "0.1", "no-such-package": "1"}}, tmp_path)
    assert "numpy is" in caplog.text
    assert "no-such-package 1 is not installed" in caplog.text


def test_what_is_missing_is_named(tmp_path, bundles):
    with pytest.raises(UserError, match=r"model\.pt: there are no trained weights; train them"):
        weights(tmp_path / "model.pt")
    with pytest.raises(UserError, match="--dataset_dir is not given: the folder"):
        required("", "dataset_dir", "the folder")
    assert required("x", "dataset_dir", "the folder") == "x"
    with pytest.raises(UserError, match=r"demo\.json: is not there; the bundle has metadata, train"):
        configuration_files(bundles / "mine", ["train", "demo"])
    with pytest.raises(UserError, match="other: is no bundle; give a bundle's folder or one of: mine"):
        bundle_folder("other")
    assert bundle_folder("mine") == bundle_folder(bundles / "mine") == bundles / "mine"


def test_the_running_configuration_is_that_of_the_parser():
    from monai.bundle import ConfigParser

    parser = ConfigParser({"imports": ["$from common.bundle import running_config as c"], "seed": 3, "config": "$c()"})
    parser.update({"seed": 4})
    assert parser.get_parsed_content("config")["seed"] == 4
    assert running_config() == {}


@pytest.mark.parametrize(("word", "value"), [("false", "False"), ("null", "'$None'")])
def test_a_word_that_was_meant_as_a_value_is_refused(word, value):
    """`--loss::suppress_only false` on the command line is the string, and true."""
    config = {"imports": ["$from common.bundle import required as _required"], "loss": {"suppress_only": word},
              "data": "$_required('folder', 'dataset_dir', 'the data')"}  # fmt: skip
    parser = ConfigParser(config)
    with pytest.raises(Exception, match="data") as fault:
        parser.get_parsed_content("data")
    assert str(user_error(fault.value)) == f"--loss::suppress_only {word}: is a word, not a value; write {value}"
    parser = ConfigParser(config | {"loss": {"suppress_only": False, "name": "falsehood"}})
    assert parser.get_parsed_content("data") == "folder"


@pytest.mark.parametrize("name", ["max_norm", "loss::term", "loss#term", "handlers::0"])
def test_an_option_that_is_none_is_refused(name, tmp_path):
    """MONAI drops it, and what is configured would stay."""
    config = {"imports": ["$from common.bundle import required as _required"], "loss": {"term": {"a": 1}, "no": None},
              "max_norm": 1.0, "handlers": [1], "run": ["$_required('folder', 'dataset_dir', 'the data')"]}  # fmt: skip
    (tmp_path / "train.json").write_text(json.dumps(config))

    def train(**options):
        run(config_file=str(tmp_path / "train.json"), **options)

    with pytest.raises(Exception, match="_required") as fault:
        train(**{name: None})
    expected = f"--{name} None: would be left out, and what is configured stay; write --{name} '$None'"
    assert str(user_error(fault.value)) == expected
    train(**{name: "$None", "loss::no": None, "unknown": None})
