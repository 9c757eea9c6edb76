import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UserError
from common.report.curves import curves, read_history, ticks
from tools.__main__ import main

SVG = "{http://www.w3.org/2000/svg}"


def rows(**columns):
    names = list(columns)
    return [
        {"epoch": str(i + 1)} | dict(zip(names, values, strict=True))
        for i, values in enumerate(zip(*columns.values(), strict=True))
    ]


def lines(svg: str) -> list[list[list[tuple[float, float]]]]:
    """Of each plot its runs' points, in pixels."""
    found = []
    for group in ET.fromstring(svg).iter(f"{SVG}g"):
        paths = [path.get("d") for path in group.iter(f"{SVG}path") if path.get("stroke-width")]
        found.append([[tuple(map(float, point.split())) for point in d[1:].split("L")] for d in paths])
    return found


def test_points_stand_where_the_numbers_say():
    runs = {
        "a & <b>": rows(loss=["1", "0.5", "0"], x=["", "", "3"]),
        "c": rows(loss=["0", "0", "1"], x=["1", "2", "3"]),
    }
    svg = curves(runs, ["loss", "x"])
    (first, second), (third, fourth) = lines(svg)
    assert [x for x, _ in first] == [0, 150, 300]
    assert [y for _, y in first] == [0, 85, 170], "up is more"
    assert [y for _, y in second] == [170, 170, 0]
    assert (len(third), len(fourth)) == (1, 3), "an empty value is no point"
    texts = [text.text for text in ET.fromstring(svg).iter(f"{SVG}text")]
    assert {"loss", "x", "a & <b>", "c", "epoch 1", "epoch 3", "0.5"} <= set(texts)


def test_a_run_without_a_column_has_no_line_and_a_column_without_runs_is_refused():
    runs = {"none": rows(loss=["1", "2"]), "literal": rows(loss=["1", "2"], clamped=["0", "1"])}
    assert [len(plot) for plot in lines(curves(runs, ["loss", "clamped"]))] == [2, 1]
    with pytest.raises(UserError, match="--columns lost: no run has values of it; there are clamped, epoch, loss"):
        curves(runs, ["lost"])


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_enclose_and_are_few(low, span):
    marks = ticks(low, low + span)
    assert marks[0] <= low + 1e-6 * span
    assert marks[-1] >= (low + span) - 1e-6 * span
    assert 2 <= len(marks) <= 7
    assert ticks(2.0, 2.0)[-1] > 2.0


def test_command(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "history.csv").write_text("epoch,loss,val_dice\n1,0.5,0.1\n2,0.4,\n")
    out = tmp_path / "curves.svg"
    assert main(["curves", "--run", f"grl={tmp_path / 'run'}", "--output", str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    assert [len(plot[0]) for plot in lines(out.read_text())] == [2, 1]
    with pytest.raises(UserError, match=r"history\.csv: is not there; give the --output_dir of a training"):
        read_history(tmp_path)
    assert main(["curves", "--run", "grl", "--output", str(out)]) == 2
    assert re.search("--run grl: write NAME=DIR", capsys.readouterr().err)
