"""What is prepared before MONAI Label is imported, and how it is started; without MONAI Label."""

import functools
import importlib.metadata
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from common.errors import UserError
from common.serving.label import environment, launch
from common.serving.label.help_page import EXAMPLES, page
from common.serving.label.launch import Settings, arguments, make_app
from common.serving.label.served import FACTS, serve, write_json
from common.serving.label.training import check_labels, new_folder
from tools.__main__ import main


def test_another_monai_label_is_refused(monkeypatch, capsys, tmp_path):
    def version(found):
        def fake(name):
            if found is None:
                raise importlib.metadata.PackageNotFoundError(name)
            return found

        monkeypatch.setattr(importlib.metadata, "version", fake)

    version(None)
    with pytest.raises(UserError, match="MONAI Label is not installed here; pip install -r"):
        environment.check_version()
    version("0.8.4")
    assert main(["label-server", "--bundles", "unet", "--studies", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: MONAI Label is 0.8.4, this works with 0.8.5; pip install")
    version("0.8.5")
    monkeypatch.setattr(sys, "version_info", (3, 12, 1))
    with pytest.raises(UserError, match=r"Python is 3\.12; MONAI Label 0\.8\.5 needs 3\.11"):
        environment.check_version()


def test_the_stand_in_is_there_only_while_it_is_needed(monkeypatch):
    with environment._stand_in("no_such_package", ("make_grid",)):
        from no_such_package.utils import make_grid

        with pytest.raises(NotImplementedError, match="no_such_package is not installed"):
            make_grid()
    assert not [name for name in sys.modules if name.startswith("no_such_package")]
    with environment._stand_in("json", ("make_grid",)):
        import json

        assert not hasattr(json, "make_grid")  # what is installed stays


def test_uids_of_the_older_pydicom(monkeypatch):
    monkeypatch.delitem(sys.modules, "pydicom._storage_sopclass_uids", raising=False)
    environment._old_pydicom()
    from pydicom._storage_sopclass_uids import SegmentationStorage

    assert SegmentationStorage == "1.2.840.10008.5.1.4.1.1.66.4"


def test_only_processes_of_monai_labels_tasks_are_prepared(monkeypatch):
    seen = []
    monkeypatch.setattr(environment, "prepare", lambda: seen.append(1))
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "tools", "parse"])
    environment.child()
    assert not seen
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "monailabel.interfaces.utils.app", "-m", "train"])
    environment.child()
    assert seen


def test_processes_that_are_started_begin_with_the_site_file(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    environment.prepare_children(tmp_path / "site")
    assert os.environ["PYTHONPATH"].split(os.pathsep)[::2] == [str(tmp_path / "site"), "elsewhere"]
    program = "import sys; print('common.serving.label.environment' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert said.stdout == "True\n"


def test_an_app_is_given_its_fields_and_no_configuration_takes_values(tmp_path):
    (tmp_path / "configs").mkdir()
    write_json(tmp_path / "configs" / FACTS, {"fields": {"text_prompt": "", "threshold": 0.5}})
    task, other = (
        SimpleNamespace(
            bundle_path=str(tmp_path), _config={"device": ["cpu"], "model_filename": ["last.pt", "model.pt"]},
            displayable_configs={"a": 1}, _get_network=lambda device, data: "network",
        )
        for _ in range(2)
    )  # fmt: skip

    def run_scoring(image, *_):
        if image == "bad":
            raise UserError("bad: body part FOOT")
        return image

    scored = SimpleNamespace(infer_task=other, run_scoring=run_scoring)
    options = {"device": ["cpu"], "max_epochs": 50, "val_split": 0.2, "multi_gpu": True, "gpus": "all", "run_id": ""}
    trainer = SimpleNamespace(config=lambda: options)
    app = SimpleNamespace(_infers={"a": task}, _scoring_methods={"a": scored}, _trainers={"a": trainer})
    environment.adopt(app)
    assert task._config == {
        "device": ["cpu"], "text_prompt": "", "threshold": 0.5, "model_filename": ["model.pt"],
    }  # fmt: skip
    assert (task.displayable_configs, scored.infer_task.displayable_configs) == ({}, {})
    assert "run_id" not in trainer.config()
    assert [scored.run_scoring(image, 5) for image in ("good", "bad")] == ["good", None]
    for one in (task, other):
        with pytest.raises(UserError, match=r"/models/model\.pt: is not there; put the weights back"):
            one._get_network("cpu", {})
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "model.pt").touch()
    assert [one._get_network("cpu", {}) for one in (task, other)] == ["network", "network"]


def test_an_inference_needs_an_image():
    app = SimpleNamespace(infer=lambda request, datastore=None: request["image"])
    environment.adopt(app)
    assert app.infer({"image": "scan1"}, None) == "scan1"
    for request in ({}, {"image": ""}, {"image": ["scan1"]}):
        with pytest.raises(UserError, match="image: no such image"):
            app.infer(request)


def test_a_refused_image_stops_no_other():
    def batch(request, datastore, infer):
        assert request["multi_gpu"] is False
        return {name: infer({"image": name}, datastore) for name in ("a", "b")}

    def infer(request, datastore):
        if request["image"] == "a":
            raise RuntimeError("applying") from UserError("a.dcm: body part FOOT")
        return {"params": {"image": request["image"]}}

    run = functools.partial(environment.infer_all, batch)
    assert run({}, None, infer) == {
        "a": {"params": {"refused": "a.dcm: body part FOOT"}},
        "b": {"params": {"image": "b"}},
    }
    with pytest.raises(ZeroDivisionError):
        run({}, None, lambda *_: 1 / 0)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A Python with MONAI Label's sample apps."""
    app = tmp_path / "prefix" / "monailabel" / "sample-apps" / "monaibundle"
    app.mkdir(parents=True)
    (app / "main.py").write_text("class MyApp: pass\n")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    return app


def test_the_app_is_copied_as_it_is(installed, tmp_path):
    app = make_app(tmp_path / "work")
    assert (app / "main.py").read_bytes() == (installed / "main.py").read_bytes()
    (app / "model").mkdir()
    (tmp_path / "work" / "series").mkdir()
    assert not (make_app(tmp_path / "work") / "model").exists()
    assert (tmp_path / "work" / "series").exists()  # what was fetched stays
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("")
    with pytest.raises(UserError, match="holds other files; give a new folder as --work"):
        make_app(tmp_path / "other")
    (installed / "main.py").unlink()
    with pytest.raises(UserError, match="install MONAI Label again"):
        make_app(tmp_path / "work")


def test_monai_labels_command_line(bundles, tmp_path, monkeypatch):
    app = tmp_path / "app"
    served = [serve(str(bundles[name]), app) for name in ("ssa", "unet")]
    words = arguments(Settings(["ssa", "unet"], "http://pacs/dicom-web", tmp_path, scoring=["ssa"]), app, served)
    assert words[words.index("--host") + 1] == "127.0.0.1"
    assert words[words.index("models") + 1] == "ssa,unet"
    assert words[words.index("epistemic_model") + 1] == "ssa"
    for name, match in (("unet", "no dropout"), ("c2seg", "is not served; name one of ssa, unet")):
        with pytest.raises(UserError, match=match):
            arguments(Settings(["ssa", "unet"], "x", tmp_path, scoring=[name]), app, served)
    for name in ("MONAI_LABEL_DICOMWEB_SEARCH_FILTER", "MONAI_LABEL_AUTO_UPDATE_SCORING"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "environ", dict(os.environ) | {"HF_HUB_OFFLINE": "0", "MONAI_LABEL_API_STR": "/api"})
    launch.environment(Settings([], "x", tmp_path), served)
    assert os.environ["MONAI_LABEL_DICOMWEB_SEARCH_FILTER"] == '{"Modality": "CR,DX"}'
    assert os.environ["MONAI_LABEL_API_STR"] == ""  # the gate would not know the addresses
    assert os.environ["HF_HUB_OFFLINE"] == "0"  # what the user set stays


def test_studies_that_are_not_there(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(launch, "check_version", lambda: None)
    given = ["label-server", "--bundles", "unet", "--studies", str(tmp_path / "none"), "--work", str(tmp_path / "w")]
    assert main(given) == 2
    assert "none: there is no such folder; give one with images, or http://... of DICOMweb" in capsys.readouterr().err
    assert not (tmp_path / "w").exists()


def test_training_needs_labels_on_both_sides(tmp_path):
    check_labels([1], [1])
    for train, validation in (([], []), ([1], []), ([], [1])):
        with pytest.raises(UserError, match=f"labels: {len(train)} to train on and {len(validation)} to validate"):
            check_labels(train, validation)
    assert [new_folder(str(tmp_path)) for _ in range(2)] == [str(tmp_path / "runs" / n) for n in "12"]


def test_the_page_of_accepted_words_shows_what_the_parser_says():
    text = page()
    for examples in EXAMPLES.values():
        for sentence, _ in examples:
            assert sentence in text
    for words in (
        "consolidation",
        "cardiomegaly",
        "Unilateral pulmonary infection, lower left lung.",
        "asserts disease",
    ):
        assert words in text
