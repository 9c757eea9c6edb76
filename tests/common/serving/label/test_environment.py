"""What is prepared before MONAI Label is imported, and how it is started; without MONAI Label."""

import functools
import importlib.metadata
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from common.errors import UserError
from common.serving.label import environment, launch
from common.serving.label.help_page import EXAMPLES, page
from common.serving.label.launch import Settings, arguments, make_app
from common.serving.label.requests import NotThere, Unavailable
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


def test_only_processes_of_monai_labels_tasks_are_prepared(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(environment, "prepare", lambda: seen.append(1))
    monkeypatch.setattr(environment, "use_of_task", lambda: None)
    monkeypatch.setattr(environment, "_end_with", lambda parent: None)
    monkeypatch.setenv("MONAI_LABEL_APP_DIR", str(tmp_path))
    (tmp_path / "model" / "ssa" / "models").mkdir(parents=True)
    (tmp_path / "model" / "ssa" / "models" / "model.pt").touch()
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


CHILD = """
import os, sys
sys.orig_argv = ["python", "-m", "monailabel.interfaces.utils.app"]
from common.serving.label import environment
environment.prepare = lambda: None
environment.child()
"""


def child(tmp_path, program, **options):
    env = os.environ | {"MONAI_LABEL_APP_DIR": str(tmp_path), "TMPDIR": str(tmp_path / "tmp")}
    return subprocess.Popen(
        [sys.executable, "-c", CHILD + program], cwd=launch.__file__.split("/common/")[0], env=env, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
    )  # fmt: skip


@pytest.fixture
def app_of_one(tmp_path):
    (tmp_path / "tmp").mkdir()
    (tmp_path / "model" / "ssa" / "models").mkdir(parents=True)
    weights = tmp_path / "model" / "ssa" / "models" / "model.pt"
    weights.touch()
    return weights


def test_a_task_without_weights_ends_with_one_line(tmp_path, app_of_one):
    app_of_one.unlink()
    process = child(tmp_path, "print('went on')")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert (out, err) == (
        "", "error: ssa/models/model.pt: is not there; put the weights back, or train the bundle\n",
    )  # fmt: skip


def test_a_task_leaves_nothing_behind_and_clears_after_a_killed_one(tmp_path, app_of_one):
    dead = tmp_path / "tmp" / "task-999999999"
    dead.mkdir()
    (dead / "patient.nii.gz").touch()
    program = "import tempfile; open(tempfile.mkdtemp() + '/patient', 'w'); print(tempfile.gettempdir()); 1 / 0"
    process = child(tmp_path, program)
    out, err = process.communicate(timeout=120)
    assert "ZeroDivisionError" in err
    assert Path(out.strip()).parent == tmp_path / "tmp"
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_task_ends_with_its_server(tmp_path, app_of_one):
    """The server is killed: here a shell that has the task for a child."""
    program = "import time; print(os.getpid(), flush=True); time.sleep(100)"
    env = os.environ | {"MONAI_LABEL_APP_DIR": str(tmp_path), "TMPDIR": str(tmp_path / "tmp")}
    (tmp_path / "task.py").write_text(CHILD + program)
    starts = "import subprocess, sys; subprocess.run([sys.executable, sys.argv[1]])"
    root = launch.__file__.split("/common/")[0]
    server = subprocess.Popen(
        [sys.executable, "-c", starts, str(tmp_path / "task.py")], stdout=subprocess.PIPE, text=True, cwd=root,
        env=env | {"PYTHONPATH": root},
    )  # fmt: skip
    task = int(server.stdout.readline())
    server.kill()
    server.wait()
    for _ in range(200):
        if not psutil.pid_exists(task):
            return
        time.sleep(0.1)
    psutil.Process(task).kill()
    raise AssertionError("it goes on without a server")


def fetch(*files, error=None):
    """A download of MONAI Label's that ends with an error after some files."""

    def function(study, series, folder, *_):
        for name in files:
            (Path(folder) / name).write_text(series)
        if error:
            raise error

    return function


def test_a_series_is_fetched_whole_or_not_at_all(tmp_path):
    requests = pytest.importorskip("requests")
    folder = tmp_path / "images" / "1.2"
    environment.fetch_series(fetch("a.dcm"), None, "1.2", str(folder))
    assert (folder / "a.dcm").read_text() == "1.2"
    missing = requests.HTTPError(response=SimpleNamespace(status_code=404))
    broken = requests.HTTPError(response=SimpleNamespace(status_code=500))
    for error, kind, words in (
        (IndexError(), NotThere, "image: no such image"), (missing, NotThere, "image: no such image"),
        (None, NotThere, "image: no such image"), (broken, Unavailable, "studies: the DICOMweb service answers 500"),
        (requests.ConnectionError(), Unavailable, "studies: the DICOMweb service does not answer"),
        (ZeroDivisionError(), ZeroDivisionError, ""),
    ):  # fmt: skip
        with pytest.raises(kind, match=words):
            environment.fetch_series(
                fetch(*(["half.dcm"] if error else []), error=error), None, "1.3", str(folder.with_name("1.3"))
            )
        assert [path.name for path in folder.parent.iterdir()] == ["1.2"]


def test_a_series_is_asked_for_by_a_uid():
    asked = environment._of_a_series(lambda datastore, image: image)
    assert asked(None, "1.2.840.3") == "1.2.840.3"
    for image in ("", "scan1", "1.2/../3", "..", "1.2 3", "1" * 65, None):
        with pytest.raises(NotThere):
            asked(None, image)


def test_labels_of_another_length_than_their_image_are_refused(tmp_path):
    (tmp_path / "label.bin").write_bytes(bytes(7))

    def convert(image, label):
        raise ValueError("cannot reshape array")

    with pytest.raises(UserError, match="label: has 7 bytes, another number than its image has pixels"):
        environment._of_its_size(convert, "image", str(tmp_path / "label.bin"))


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
        if image == "gone":
            raise RuntimeError("applying") from Unavailable("model.pt: is not there")
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
    # that fails all of it
    with pytest.raises(RuntimeError):
        scored.run_scoring("gone", 5)
    for one in (task, other):
        with pytest.raises(Unavailable, match=r"/models/model\.pt: is not there; put the weights back"):
            one._get_network("cpu", {})
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "model.pt").touch()
    assert [one._get_network("cpu", {}) for one in (task, other)] == ["network", "network"]


def test_an_inference_needs_an_image():
    app = SimpleNamespace(infer=lambda request, datastore=None: request["image"])
    environment.adopt(app)
    assert app.infer({"image": "scan1"}, None) == "scan1"
    # what MONAI Label would put into places of its own gets nowhere
    app = SimpleNamespace(infer=lambda request, datastore=None: request)
    environment.adopt(app)
    own = {"image": "scan1", "text_prompt": "left", "laterality": "image", "result_extension": ".nrrd"}
    foreign = {"skip_writer": True, "result_write_to_file": False, "image_path": "/x", "centroids": 1, "latencies": 1}
    assert app.infer(own | foreign) == own
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

    def gone(*_):
        raise Unavailable("model.pt: is not there")

    with pytest.raises(Unavailable):
        run({}, None, gone)


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
    (app / "logs" / "app.log").write_text("of the day before")
    assert not (make_app(tmp_path / "work") / "model").exists()
    assert (tmp_path / "work" / "series").exists()  # what was fetched stays
    assert (app / "logs" / "app.log").read_text() == "of the day before"
    (installed / "main.py").unlink()
    with pytest.raises(UserError, match="install MONAI Label again"):
        make_app(tmp_path / "work")


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_a_folder_and_a_port_are_of_one_server(tmp_path, port):
    work = tmp_path / "work"
    with launch.claim(work, "127.0.0.1", port):
        (work / "app").mkdir()
        with pytest.raises(UserError, match=r"work: another label server uses it; stop that one, or give another"):
            launch.claim(work, "127.0.0.1", port + 1)
        assert (work / "app").is_dir()
    launch.claim(work, "127.0.0.1", port).close()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with pytest.raises(UserError, match=rf"127\.0\.0\.1:{port}: cannot be listened on \(.*in use\); give another"):
            launch.claim(work, "127.0.0.1", port)
    with pytest.raises(UserError, match="cannot be listened on"):
        launch.claim(work, "no.such.host.invalid", port)
    with pytest.raises(UserError, match="--port 99999: is no port"):
        launch.claim(work, "127.0.0.1", 99999)
    launch.claim(work, "127.0.0.1", port).close()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("")
    with pytest.raises(UserError, match="holds other files; give a new folder as --work"):
        launch.claim(tmp_path / "other", "127.0.0.1", port)


def test_a_second_server_leaves_the_first_ones_files_alone(installed, tmp_path, port, monkeypatch, capsys):
    monkeypatch.setattr(launch, "check_version", lambda: None)
    work = tmp_path / "work"
    with launch.claim(work, "127.0.0.1", port):
        make_app(work)
        (work / "tmp").mkdir()
        before = sorted(work.rglob("*"))
        given = [
            "label-server",
            "--bundles",
            "unet",
            "--studies",
            str(tmp_path),
            "--work",
            str(work),
            "--port",
            str(port),
        ]
        assert main(given) == 2
        assert sorted(work.rglob("*")) == before
    said = capsys.readouterr().err
    assert said.startswith(f"error: {work}: another label server uses it;")
    assert said.count("\n") == 1


def test_names_of_a_server():
    assert launch.hosts("127.0.0.1", ["label.hospital"]) == ["127.0.0.1", "label.hospital"]
    assert launch.hosts("10.0.0.5", []) == ["10.0.0.5"]
    assert launch.hosts("0.0.0.0", []) == launch.hosts("::", []) == launch.hosts("", []) == ["*"]


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
    assert json.loads(os.environ[launch.HOSTS]) == ["127.0.0.1"]
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
