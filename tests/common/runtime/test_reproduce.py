"""A run trained again from its sidecar: the same bits, or a line that says why not."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from common.bundle import bundle_folder
from common.datasets import phantoms
from common.engines.checkpoint import provenance
from common.errors import UserError
from common.networks.checkpoints import SHIPPED
from common.runtime import reproduce
from common.runtime.workflow import run_bundle
from tools.__main__ import main

COMMIT = 40 * "a"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantoms")
    phantoms.write(root, count=20, size=64, seed=1, inbox=0)
    return root


@pytest.fixture(autouse=True)
def clean_checkout(monkeypatch):
    """As if the tests ran in a checkout without changes."""
    for place in ("common.engines.checkpoint.provenance", "common.runtime.reproduce.provenance"):
        monkeypatch.setattr(place, lambda: provenance() | {"commit": COMMIT})


def trained(name, data, out, **override):
    """Two epochs of a bundle; its sidecar says the commit of the tests."""
    values = {"image_size": [64, 64], "batch_size": 4, "num_workers": 0, "max_epochs": 2, "epoch_length": 2}
    run_bundle(bundle_folder(name), ["train", "demo"], "training", dataset_dir=str(data), output_dir=str(out),
               seed=7, **values | override)  # fmt: skip
    change(out, commit=COMMIT)
    return out


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    return trained("unet", data, tmp_path_factory.mktemp("run"))


@pytest.fixture
def copy(run, tmp_path):
    return Path(shutil.copytree(run, tmp_path / "run"))


def change(folder, config=None, **values):
    path = folder / "model.json"
    facts = json.loads(path.read_text())
    facts["config"] |= config or {}
    path.write_text(json.dumps(facts | values))


def again(capfd, run, data, output, *options):
    """Exit code, what is printed as a table, and what is said beside it."""
    capfd.readouterr()
    code = main(["reproduce", str(run), "--data", str(data), "--output", str(output), *options])
    said = capfd.readouterr()
    keys = ("commit", "device", "threads", "val_dice", "best epoch", "weights", "history.csv", "first other", "verdict")
    table = {k: line[16:] for line in said.out.splitlines() for k in keys if line.startswith(k.ljust(16))}
    return code, table, said.err


def test_the_same_bits(run, data, tmp_path, capfd):
    code, table, err = again(capfd, run, data, tmp_path / "again")
    assert code == 0, err
    assert table["verdict"] == "identical"
    assert table["weights"].startswith("identical: ") and table["weights"].endswith("compared in float32")
    assert table["history.csv"] == "2 of 2 epochs are the same"
    assert "warning" not in err
    before, after = (torch.load(folder / "model.pt", weights_only=True) for folder in (run, tmp_path / "again"))
    assert all(torch.equal(before[key], after[key]) for key in before)
    config = json.loads((tmp_path / "again" / "model.json").read_text())["config"]
    assert (config["seed"], config["max_epochs"], config["image_size"]) == (7, 2, [64, 64])


def test_the_sidecar_alone_and_moved_data(copy, data, tmp_path, capfd):
    moved = Path(shutil.copytree(data, tmp_path / "elsewhere"))
    for name in ("model.pt", "history.csv"):
        (copy / name).unlink()
    code, table, _ = again(capfd, copy / "model.json", moved, tmp_path / "again")
    assert code == 0
    assert table["weights"] == "of then are not there" and table["history.csv"] == "of then is not there"
    assert table["verdict"] == "identical"


def test_a_mean_teacher(data, tmp_path, capfd):
    """Its unlabelled data have a fingerprint of their own."""
    run = trained("semi_medref", data, tmp_path / "run", fraction=0.5)
    code, table, err = again(capfd, run, data, tmp_path / "again")
    assert code == 0, err
    assert table["verdict"] == "identical" and table["history.csv"] == "2 of 2 epochs are the same"
    sidecar = json.loads((run / "model.json").read_text())
    change(run, unlabelled=sidecar["unlabelled"] | {"items": 1})
    code, _, err = again(capfd, run, data, tmp_path / "other")
    assert code == 2 and "train::trainer::unlabelled::data has 8 items" in err and "then 1 with" in err


def test_weights_in_half_precision(copy, data, tmp_path, capfd):
    state = torch.load(copy / "model.pt", weights_only=True)
    torch.save({k: v.half() if v.is_floating_point() else v for k, v in state.items()}, copy / "model.pt")
    code, table, _ = again(capfd, copy, data, tmp_path / "again")
    assert code == 0 and table["weights"].endswith("compared in float16")


def test_another_result_where_the_same_bits_are_due(copy, data, tmp_path, capfd):
    state = torch.load(copy / "model.pt", weights_only=True)
    key = next(key for key, value in state.items() if value.is_floating_point())
    state[key].view(-1)[0] += 0.25
    torch.save(state, copy / "model.pt")
    text = (copy / "history.csv").read_text().splitlines()
    cells = dict(zip(text[0].split(","), text[2].split(","), strict=True))
    cells["val_dice"] = "0.123"
    (copy / "history.csv").write_text("\n".join([text[0], text[1], ",".join(cells.values())]) + "\n")
    code, table, _ = again(capfd, copy, data, tmp_path / "again")
    assert code == 1
    assert re.fullmatch(rf"largest difference 0\.2[45]\d*, in {re.escape(key)}", table["weights"])
    assert table["history.csv"] == "1 of 2 epochs are the same"
    assert table["first other"].startswith("epoch 2, val_dice: 0.123 then, ")
    assert table["verdict"].startswith("not reproduced: the same commit, versions and kind of machine")


@pytest.mark.parametrize(("change_by", "code"), [(0.004, 0), (0.006, 1)])
def test_elsewhere_the_metric_has_to_agree(copy, data, tmp_path, capfd, change_by, code):
    value = json.loads((copy / "model.json").read_text())["value"]
    change(copy, device="x86_64, 96 cores", value=value + change_by)
    found, table, err = again(capfd, copy, data, tmp_path / "again")
    assert found == code
    word = "reproduced: val_dice is within 0.005" if code == 0 else "not reproduced: val_dice is not within 0.005"
    assert table["verdict"] == word
    assert "warning: device: x86_64, 96 cores then, " in err


def test_the_number_of_threads_is_the_runs(copy, data, tmp_path, capfd):
    before = torch.get_num_threads()
    change(copy, threads=before + 1)
    _, table, _ = again(capfd, copy, data, tmp_path / "again")
    assert table["threads"] == f"{before + 1} then, {before + 1} now"
    assert torch.get_num_threads() == before


def test_a_run_that_a_time_limit_stopped_is_stopped_there(copy, data, tmp_path, capfd):
    """After one epoch of two; the learning rate is that of a training of two."""
    (copy / "model.pt").unlink()
    rows = (copy / "history.csv").read_text().splitlines()
    (copy / "history.csv").write_text("\n".join(rows[:2]) + "\n")
    change(copy, {"time_limit": 1e-9}, epoch=1, value=float(rows[1].split(",")[rows[0].split(",").index("val_dice")]))
    code, table, err = again(capfd, copy, data, tmp_path / "again")
    assert code == 0, err
    assert table["history.csv"] == "1 of 1 epochs are the same" and table["verdict"] == "identical"
    config = json.loads((tmp_path / "again" / "model.json").read_text())["config"]
    assert (config["max_epochs"], config["time_limit"]) == (2, None)


def refused(capfd, words, run, data, output, *options):
    code, _, err = again(capfd, run, data, output, *options)
    assert code == 2 and err.count("\n") == 1, err
    assert words in err
    assert not (output / "model.pt").exists()


def test_other_data(run, tmp_path, capfd):
    phantoms.write(tmp_path / "other", count=20, size=64, seed=2, inbox=0)
    refused(capfd, "other: is other data than the run's: train::dataset::data has 16 items with fingerprint ", run,
            tmp_path / "other", tmp_path / "again")  # fmt: skip


def test_one_mask_changed(run, data, tmp_path, capfd):
    other = Path(shutil.copytree(data, tmp_path / "other"))
    rows = (other / "captions.csv").read_text().replace("lower", "upper", 1)
    (other / "captions.csv").write_text(rows)
    refused(capfd, "is other data than the run's", run, other, tmp_path / "again")


def test_another_commit(copy, data, tmp_path, capfd):
    other = 40 * "b"
    change(copy, commit=other)
    refused(capfd, f"was trained with commit {other[:12]}, this is {COMMIT[:12]}; git worktree add "
            f"../chest-refseg-{other[:7]} {other}, and run this command there (--any-commit goes on with this code)",
            copy, data, tmp_path / "again")  # fmt: skip
    code, table, _ = again(capfd, copy, data, tmp_path / "again", "--any-commit")
    assert code == 0 and table["verdict"] == "identical"
    assert table["commit"] == f"{other} then, {COMMIT} now"


@pytest.mark.parametrize(
    ("then", "now", "words"),
    [
        (f"{COMMIT}-dirty", COMMIT, f"was trained with changes that commit {COMMIT[:12]} does not hold"),
        (COMMIT, f"{COMMIT}-dirty", "this checkout has changes that its commit does not hold; git stash"),
        ("unknown: not a git checkout", COMMIT, "its commit is 'unknown: not a git checkout'"),
    ],
)
def test_code_that_no_commit_holds(copy, data, tmp_path, capfd, monkeypatch, then, now, words):
    facts = provenance()
    monkeypatch.setattr("common.runtime.reproduce.provenance", lambda: facts | {"commit": now})
    change(copy, commit=then)
    refused(capfd, words, copy, data, tmp_path / "again")


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"seed": "$__import__('pathlib').Path('evaluated').touch() or 7"}, "seed"),
        ({"loss": {"_target_": "os.system", "command": "touch evaluated"}}, "loss::_target_"),
        ({"imports": ["$import os"]}, "imports::0"),
        ({"seed": "%/etc/passwd"}, "seed"),
    ],
)
def test_a_sidecar_runs_no_code_of_its_own(copy, data, tmp_path, capfd, monkeypatch, config, name):
    monkeypatch.chdir(tmp_path)
    change(copy, config)
    refused(capfd, f"config::{name} would run ", copy, data, tmp_path / "again")
    assert not (tmp_path / "evaluated").exists()


def test_code_that_is_trusted(copy, data, tmp_path, capfd):
    change(copy, {"seed": "$3 + 4"})
    refused(capfd, "and if you trust it: --trust-config", copy, data, tmp_path / "a")
    assert again(capfd, copy, data, tmp_path / "b", "--trust-config")[0] == 0


def test_other_faults_are_one_line(copy, run, data, tmp_path, capfd):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    refused(capfd, "used: is there already; give another folder, or remove it", run, data, tmp_path / "used")
    refused(capfd, "--data nowhere: there is no such folder", run, "nowhere", tmp_path / "again")
    refused(capfd, "model.json: is not the sidecar that a training writes", tmp_path, data, tmp_path / "again")
    refused(capfd, "device tpu: is not there", run, data, tmp_path / "again", "--device", "tpu")
    change(copy, {"initialize": ["$_start()"]})
    refused(capfd, "was trained by several processes", copy, data, tmp_path / "again", "--trust-config")


def test_versions_that_differ_are_said(run):
    found = reproduce.recorded(run)
    found.sidecar["versions"]["torch"] = "1.0"
    assert reproduce.other_versions(found) == [f"torch: 1.0 then, {torch.__version__} now"]


def test_a_second_stage_is_told_where_the_first_ones_weights_are(data, tmp_path, capfd):
    sizes = {"image_size": [64, 64], "batch_size": 4, "num_workers": 0, "max_epochs": 1, "epoch_length": 2, "seed": 7}
    first = tmp_path / "first"
    run_bundle(bundle_folder("c2seg"), ["train", "demo", "pretrain"], "training", dataset_dir=str(data),
               output_dir=str(first), weights=str(first / "model.pt"), **sizes)  # fmt: skip
    change(first, commit=COMMIT)
    assert "checkpoints" not in json.loads((first / "model.json").read_text())
    run = trained("c2seg", data, tmp_path / "run", image_checkpoint=str(first / "model.pt"), max_epochs=1)
    noted = json.loads((run / "model.json").read_text())["checkpoints"]
    assert noted == {"image_checkpoint": hashlib.sha256((first / "model.pt").read_bytes()).hexdigest()}

    # the first stage made again is the same file, byte by byte
    code, table, err = again(capfd, first, data, tmp_path / "first_again")
    assert (code, table.get("verdict")) == (0, "identical"), err
    first.rename(tmp_path / "moved")
    shutil.rmtree(tmp_path / "moved")
    refused(capfd, f"began with {first / 'model.pt'}, which is not there", run, data, tmp_path / "a")
    option = ("--image-checkpoint", str(tmp_path / "first_again" / "model.pt"))
    refused(capfd, "x.pt: is not there; give the file", run, data, tmp_path / "a", option[0], str(tmp_path / "x.pt"))
    code, table, err = again(capfd, run, data, tmp_path / "a", *option)
    assert (code, table["verdict"]) == (0, "identical"), err
    assert "warning" not in err

    state = torch.load(option[1], weights_only=True)
    torch.save({key: value + 1e-3 if value.is_floating_point() else value for key, value in state.items()}, option[1])
    _, table, err = again(capfd, run, data, tmp_path / "b", *option)
    assert "is another file than the run began with" in err
    assert "identical" not in table["verdict"] and "should give the same bits" not in table["verdict"]

    # a sidecar of before the content was noted
    sidecar = json.loads((run / "model.json").read_text())
    del sidecar["checkpoints"]
    (run / "model.json").write_text(json.dumps(sidecar))
    refused(capfd, f"model.json: began with {first / 'model.pt'}, which is not there; say where it is now: "
            "--image-checkpoint FILE", run, data, tmp_path / "c")  # fmt: skip
    _, table, err = again(capfd, run, data, tmp_path / "c", *option)
    assert err.count("warning: ") == 1
    assert (
        f"warning: image_checkpoint: the run began with {first / 'model.pt'} and did not note what that held: whether "
        f"{option[1]} holds the same cannot be checked\n"
    ) in err
    assert "identical" not in table["verdict"] and "should give the same bits" not in table["verdict"]


def test_a_name_and_a_folder_need_not_be_the_same(copy, data, tmp_path, capfd):
    """The run began with a name, of which nothing is noted."""
    folder = Path(shutil.copytree(SHIPPED["compact"], tmp_path / "encoder"))
    metric = json.loads((copy / "model.json").read_text())["value"]
    change(copy, value=metric + 0.004)
    _, table, _ = again(capfd, copy, data, tmp_path / "a")
    assert table["verdict"].startswith("not reproduced: the same commit, versions and kind of machine")
    code, table, err = again(capfd, copy, data, tmp_path / "b", "--text-checkpoint", str(folder))
    assert (code, table["verdict"]) == (0, "reproduced: val_dice is within 0.005")
    assert err.count("warning: ") == 1
    assert (
        "warning: text_checkpoint: the run began with compact and did not note what that held: whether "
        f"{folder} holds the same cannot be checked\n"
    ) in err


@pytest.mark.parametrize(
    ("name", "is_path"),
    [
        ("facebook/convnext-tiny-224", False),
        ("timm/resnet101_clip.openai", False),
        ("encoders/convnext", False),  # may be a name
        ("first/model.pt", True),
        ("weights.safetensors", True),
        ("/encoders/convnext", True),
    ],
)
def test_only_what_is_a_path_has_to_be_there(run, data, tmp_path, name, is_path):
    found = reproduce.recorded(run)
    found.sidecar["config"]["image_checkpoint"] = name

    def prepare():
        return reproduce.prepared(found, bundle_folder("unet"), data, tmp_path / "again")

    if is_path:
        with pytest.raises(UserError, match=f"began with {name}, which is not there; say where it is now: --image-"):
            prepare()
    else:
        assert prepare()["image_checkpoint"] == name


def test_a_run_that_began_with_nothing_takes_no_weights(run, data, tmp_path, capfd):
    refused(capfd, "--image-checkpoint x.pt: the run began with none", run, data, tmp_path / "a",
            "--image-checkpoint", "x.pt")  # fmt: skip
