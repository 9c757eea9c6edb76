"""Cells as tasks of Ray; needs ``pip install -r requirements-ray.txt``."""

from dataclasses import replace

import pytest

from common.benchmark.cells import OWN
from common.benchmark.grid import prepare, run_on_ray
from common.benchmark.protocols import tables
from common.benchmark.work import finished, read_json

from .conftest import TINY


@pytest.mark.full
@pytest.mark.timeout(600)
def test_cells_are_spread_and_a_failed_one_is_a_row(tmp_path, qata_phantoms):
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-ray.txt")
    cell = replace(tables(["main-qata"])[0].cells(TINY, (0,))["U-Net (takes no sentence)"][0], evaluations=(OWN,))
    wrong = replace(cell, override={**cell.override, "image_size": [63, 64]})
    folders = prepare(tmp_path, [cell, wrong, replace(cell, seed=1)])
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    lines = []
    try:
        state = run_on_ray(folders, {"qata": qata_phantoms}, 1, lines.append)
    finally:
        ray.shutdown()
    assert list(state.values()) == ["done", "failed", "done"]
    for folder, one in folders.items():
        assert finished(folder, one) == (one is not wrong)
    error = read_json(list(folders)[1] / "status.json")["error"]
    assert error
    assert any(error in line for line in lines)
