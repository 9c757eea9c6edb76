"""Cells that really train: a U-Net and C2Seg's two stages, two steps each."""

import csv
import json
import shutil
import time
from dataclasses import replace

import pytest
import torch

from common.benchmark import work
from common.benchmark.cells import OWN, merged
from common.benchmark.grid import prepare
from common.benchmark.protocols import _STAGE_ONE_C, tables
from common.benchmark.train_all import job_of
from common.benchmark.work import adopt, check_data, finished, over, read_json, run_cell
from common.bundle import bundle_folder
from common.datasets import phantoms
from common.engines import TimeLimit
from common.engines.checkpoint import provenance
from common.errors import UserError
from common.runtime.workflow import run_bundle

from .conftest import TINY


@pytest.fixture(scope="module")
def cells(tmp_path_factory, qata_phantoms):
    """U-Net and C2Seg of the main table, done."""
    with pytest.MonkeyPatch.context() as patch:
        for key, value in {"max_epochs": 1, "epoch_length": 1}.items():
            patch.setitem(_STAGE_ONE_C, key, value)
        made = tables(["main-qata"])[0].cells(TINY, (0,))
        wanted = [
            replace(made[name][0], evaluations=(OWN, "mirrored")) for name in ("U-Net (takes no sentence)", "C2Seg")
        ]
        # the loss of stage I compares the sentences of a batch
        first = wanted[1].stage_one | {
            "override": wanted[1].stage_one["override"] | {"batch_size": 4, "image_size": [64, 64]}
        }
        wanted[1] = replace(wanted[1], stage_one=first)
        folders = prepare(tmp_path_factory.mktemp("cells"), merged(wanted))
        for folder in folders:
            run_cell(folder, qata_phantoms)
    return folders


def test_a_cell_has_its_own_folder_with_configuration_environment_and_numbers(cells):
    for folder, cell in cells.items():
        assert finished(folder, cell)
        assert read_json(folder / "status.json")["state"] == "done"
        assert read_json(folder / "environment.json")["packages"]["torch"] == torch.__version__
        assert read_json(folder / "environment.json")["commit"] == provenance()["commit"]
        trained = read_json(folder / "train" / "trained.json")
        assert (trained["epochs"], trained["steps"]) == (2, 2)
        sidecar = read_json(folder / "train" / "model.json")
        assert sidecar["config"]["train_limit"] == 16
        assert sidecar["config"]["max_epochs"] == 2
        for name in cell.evaluations:
            summary = read_json(folder / "scores" / name / "summary.json")
            assert summary["images"] == 4
            assert summary["control"] == ("none" if name == OWN else name)
            assert sum(summary["reliability"]["pixels"]) == 4 * 64 * 64
            with (folder / "scores" / name / "scores.csv").open() as file:
                assert len(list(csv.DictReader(file))) == 4


def test_the_second_stage_has_the_first_ones_encoder(cells):
    folder = next(folder for folder in cells if folder.name.startswith("c2seg"))
    assert (folder / "stage_one" / "model.pt").is_file()
    config = read_json(folder / "train" / "model.json")["config"]
    assert config["image_checkpoint"] == str(folder / "stage_one" / "model.pt")


def test_what_is_there_is_not_done_again(tmp_path, cells, qata_phantoms):
    whole, cell = next(iter(cells.items()))
    folder = tmp_path / whole.name
    shutil.copytree(whole, folder)
    weights = folder / "train" / "model.pt"
    kept = weights.stat().st_mtime_ns, (folder / "scores" / OWN / "scores.csv").stat().st_mtime_ns
    shutil.rmtree(folder / "scores" / "mirrored")
    assert not finished(folder, cell)
    run_cell(folder, qata_phantoms)
    assert finished(folder, cell)
    assert (weights.stat().st_mtime_ns, (folder / "scores" / OWN / "scores.csv").stat().st_mtime_ns) == kept


def test_a_failure_is_one_line_in_the_status(tmp_path, cells, qata_phantoms):
    cell = replace(next(iter(cells.values())), override={**TINY.override, "batch_size": 2, "image_size": [63, 64]})
    (folder,) = prepare(tmp_path, [cell])
    with pytest.raises((UserError, RuntimeError)):
        run_cell(folder, qata_phantoms)
    status = read_json(folder / "status.json")
    assert status["state"] == "failed"
    assert status["error"]
    assert "\n" not in status["error"]


def test_it_goes_on_after_an_epoch_to_the_same_weights(tmp_path, cells, qata_phantoms, monkeypatch):
    done, cell = next(iter(cells.items()))
    (folder,) = prepare(tmp_path, [cell])
    with monkeypatch.context() as patch:
        patch.setattr(TimeLimit, "before_epoch", lambda self, engine: engine.state.epoch == 2 and engine.terminate())
        run_cell(folder, qata_phantoms, deadline=time.time() + 1000)
    assert read_json(folder / "status.json")["state"] == "unfinished"
    assert (folder / "train" / "last.pt").is_file()
    run_cell(folder, qata_phantoms)
    assert finished(folder, cell)
    one, two = (torch.load(f / "train" / "model.pt", weights_only=True) for f in (done, folder))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_weights_are_the_cells_whatever_the_overlays(tmp_path, cells, qata_phantoms):
    override = {**TINY.override, "network_def::network::channels": [4, 8], "network_def::network::strides": [2]}
    cell = replace(next(iter(cells.values())), overlays=("gpu",), override=override, evaluations=(OWN,))
    (folder,) = prepare(tmp_path, [cell])
    shipped = bundle_folder("unet") / "models"
    before = sorted(shipped.iterdir())
    run_cell(folder, qata_phantoms)
    assert finished(folder, cell)
    assert (folder / "train" / "model.pt").is_file()
    assert sorted(shipped.iterdir()) == before


def test_one_evaluation_that_fails_takes_no_other_with_it(tmp_path, cells, qata_phantoms, monkeypatch):
    cell = replace(next(iter(cells.values())), evaluations=(OWN, "mirrored", "blank"))
    (folder,) = prepare(tmp_path, [cell])
    real = work.evaluate

    def evaluate(*args, conditions, **more):
        if conditions.control == "mirrored":
            raise UserError("x.png: its sides cannot be swapped")
        real(*args, conditions=conditions, **more)

    monkeypatch.setattr(work, "evaluate", evaluate)
    with pytest.raises(UserError, match=r"mirrored: x\.png: its sides"):
        run_cell(folder, qata_phantoms)
    assert work.missing(folder, cell) == ["mirrored"]


def test_an_interrupt_is_no_failure(tmp_path, cells, qata_phantoms, monkeypatch):
    (folder,) = prepare(tmp_path, [next(iter(cells.values()))])

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(work, "run_bundle", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_cell(folder, qata_phantoms)
    assert read_json(folder / "status.json")["state"] == "unfinished"


def test_a_deadline_stops_it_and_it_goes_on_to_the_same_weights(tmp_path, cells, qata_phantoms):
    done, cell = next(iter(cells.items()))
    (folder,) = prepare(tmp_path, [cell])
    run_cell(folder, qata_phantoms, deadline=time.time() - 1)  # before its first epoch
    assert read_json(folder / "status.json")["state"] == "unfinished"
    assert not over(folder / "train", 2)
    run_cell(folder, qata_phantoms)
    assert finished(folder, cell)
    one, two = (torch.load(f / "train" / "model.pt", weights_only=True) for f in (done, folder))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_run_made_by_hand_is_taken_if_it_is_the_very_same(tmp_path, cells, qata_phantoms):
    cell = next(iter(cells.values()))
    (folder,) = prepare(tmp_path / "bench", [cell])
    run = tmp_path / "run"
    hand = {**cell.override, "seed": 0, "num_workers": 0, "dataset_dir": str(qata_phantoms), "output_dir": str(run)}
    run_bundle(bundle_folder("unet"), ["train", "demo"], "training", **hand)
    other = replace(cell, seed=1)
    (wrong,) = prepare(tmp_path / "other", [other])
    with pytest.raises(UserError, match=r"run: is another training than unet-qata-s1-\w+ \(seed differ\)"):
        adopt(wrong, run, qata_phantoms)
    with pytest.raises(UserError, match=r"has no model\.json and history\.csv"):
        adopt(folder, tmp_path, qata_phantoms)
    elsewhere = tmp_path / "other" / qata_phantoms.name
    shutil.copytree(qata_phantoms, elsewhere)
    table = (elsewhere / "train.csv").read_text().replace("lung", "lungs")
    (elsewhere / "train.csv").write_text(table)
    with pytest.raises(UserError, match="was trained on other data than"):
        adopt(folder, run, elsewhere)
    adopt(folder, run, qata_phantoms)
    assert json.loads((folder / "train" / "trained.json").read_text())["adopted"]
    with pytest.raises(UserError, match="has a training already"):
        adopt(folder, run, qata_phantoms)
    before = (run / "model.pt").stat().st_mtime_ns
    run_cell(folder, qata_phantoms)
    assert finished(folder, cell)
    assert (run / "model.pt").stat().st_mtime_ns == before


def test_other_data_are_neither_scored_nor_taken_for_the_old(tmp_path, cells, qata_phantoms):
    whole, cell = next(iter(cells.items()))
    output = tmp_path / "bench"
    folder = shutil.copytree(whole, output / "cells" / whole.name)
    check_data(output, {"qata": qata_phantoms})
    moved = shutil.copytree(qata_phantoms, tmp_path / "moved" / qata_phantoms.name)
    check_data(output, {"qata": moved})  # the same in another place
    run_cell(folder, moved)
    (moved / "train.csv").write_text((moved / "train.csv").read_text().replace("lung", "lungs"))
    with pytest.raises(UserError, match=r"is other data than the trainings in .*bench are of .* give another --output"):
        check_data(output, {"qata": moved})
    # more is asked of the cell by a command that finds no data.json, as from before there was one
    (output / "data.json").unlink()
    check_data(output, {"qata": moved})
    (same,) = prepare(output, [replace(cell, evaluations=(OWN, "blank"))])
    assert same == folder
    with pytest.raises(UserError, match="was trained on other data than"):
        run_cell(folder, moved)
    assert not (folder / "scores" / "blank").exists()


def test_a_table_of_ones_own_may_leave_sides_to_its_rows(tmp_path, cells):
    phantoms.write(tmp_path / "mine", count=20, size=64, inbox=0)
    table = tmp_path / "mine" / "captions.csv"
    with next((tmp_path / "mine").glob("*.csv")).open(newline="") as file:
        rows = list(csv.DictReader(file))
    next((tmp_path / "mine").glob("*.csv")).unlink()
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, [key for key in rows[0] if key != "laterality"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    cell = next(iter(cells.values()))
    cell = replace(cell, dataset="csv", override={**cell.override, "laterality": "image"}, evaluations=(OWN,))
    check_data(tmp_path / "bench", {"csv": tmp_path / "mine"})
    (folder,) = prepare(tmp_path / "bench", [cell])
    assert job_of(folder, cell, tmp_path / "mine").steps == 2
    run_cell(folder, tmp_path / "mine")
    run_cell(folder, tmp_path / "mine")
    assert finished(folder, cell)


def test_a_run_that_was_broken_off_is_not_taken(tmp_path, cells, qata_phantoms):
    cell = next(iter(cells.values()))
    (folder,) = prepare(tmp_path / "bench", [cell])
    run = tmp_path / "run"
    shutil.copytree(next(iter(cells)) / "train", run)
    last = torch.load(run / "last.pt", weights_only=True)
    last["_run"]["epoch"] = 1
    torch.save(last, run / "last.pt")
    with pytest.raises(UserError, match="is not finished; go on with it"):
        adopt(folder, run, qata_phantoms)
