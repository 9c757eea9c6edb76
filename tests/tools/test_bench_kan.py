"""``bench-kan`` compares layers that compute the same, and prints figures of each."""

import re

import torch

from common.networks.blocks.kan import KANLinear
from tools.__main__ import main
from tools.bench_kan import recursive


def test_both_formulations_compute_the_same():
    torch.manual_seed(0)
    ours, theirs = KANLinear(6, 4), recursive(6, 4)
    with torch.no_grad():
        theirs.base.copy_(ours.base)
        theirs.scale.copy_(ours.scale)
        theirs.spline.copy_(ours.spline.transpose(1, 2))
    x = torch.randn(3, 20, 6)
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-5, rtol=1e-5)


def test_a_row_for_each_stage_and_layer(capsys, monkeypatch):
    monkeypatch.setattr("tools.bench_kan.STAGES", ((16, 4), (8, 8)))
    assert main(["bench-kan", "--batch", "8", "--repeats", "1", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines() if "²" in line]
    assert [row[2] for row in rows] == ["KANLinear", "Cox-de Boor", "linear"] * 4
    assert [row[0] for row in rows[:3]] == ["16²"] * 3
    for row in rows:
        assert float(row[3]) > 0
    kept = {row[2]: float(row[5]) for row in rows[:3]}
    assert kept["KANLinear"] == kept["linear"] == 4.0, "x alone, four bytes a number"
    assert kept["Cox-de Boor"] > 100
    assert re.search(r"All together: KANLinear \d+ ms \(1\.00\), Cox-de Boor \d+ ms \(\d+\.\d\d\), linear", out)
