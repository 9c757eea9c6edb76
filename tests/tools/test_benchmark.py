import subprocess
import sys

import pytest

from tools.__main__ import main


def test_a_dry_run_lists_tables_and_cells(tmp_path, capsys):
    assert main(["benchmark", "ssa", "--dry-run", "--seeds", "0", "1", "--output", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ssa: SSA: its Table II, QaTa-COV19-v2"
    assert sum("no data" in line for line in lines) == 6
    assert lines[-1] == "6 trainings in all"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "say what to run: main, controls, fractions, degradations, ablations, or a table"),
        (["mian"], "mian: is no protocol and no table"),
        (["ssa"], "--data is not given"),
        (["ssa", "--seeds", "1", "1"], "--seeds: one seed is given twice"),
        (["ssa", "--adopt", "nothing"], "--adopt nothing: write CELL=RUN"),
    ],
)
def test_refusals_are_one_line(tmp_path, capsys, args, words):
    assert main(["benchmark", *args, "--output", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_data_of_ones_own_are_for_tables_of_ones_own(tmp_path, capsys):
    from common.datasets import phantoms

    phantoms.write(tmp_path / "mine", count=20, size=64, inbox=0)
    data = ["--data", str(tmp_path / "mine"), "--output", str(tmp_path / "out")]
    assert main(["benchmark", "ssa", *data]) == 2
    assert "is no data set of these tables; known are QaTa-COV19-v2" in capsys.readouterr().err

    table = tmp_path / "my_rows.json"
    table.write_text('{"dataset": "csv", "rows": [{"name": "one", "bundle": "unet"}]}')
    assert main(["benchmark", str(table), "--dry-run", *data]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "my_rows: my_rows"
    assert lines[1].split()[0] == "one"
    assert lines[1].endswith("to do")
    polyps = tmp_path / "Kvasir-SEG"
    (tmp_path / "mine").rename(polyps)
    other = ["--data", str(polyps), "--output", str(tmp_path / "out")]
    assert main(["benchmark", str(table), *other]) == 2
    error = capsys.readouterr().err
    assert "tables are of a table of image, mask and text, and none of that is given, but Kvasir-SEG" in error
    assert main(["benchmark", str(table), "--fill"]) == 2
    assert "--fill: is for the project's own tables, and my_rows is none" in capsys.readouterr().err


def test_a_dry_run_says_what_is_left_of_a_cell(tmp_path, capsys):
    from common.benchmark.grid import prepare
    from common.benchmark.protocols import SCALES, tables
    from common.benchmark.work import describe

    (cell,) = next(iter(tables(["degradations-qata"])[0].cells(SCALES["C"], [0]).values()))
    (folder,) = prepare(tmp_path, [cell])
    (folder / "status.json").write_text('{"state": "done"}')  # of another table's evaluations

    assert main(["benchmark", "degradations-qata", "--dry-run", "--output", str(tmp_path)]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if cell.name in line)
    assert line.endswith(" no data")
    assert describe(folder, cell, {"qata": tmp_path}) == "to do"
    (folder / "train").mkdir()
    (folder / "train" / "last.pt").touch()
    assert describe(folder, cell, {"qata": tmp_path}) == "begun"
    (folder / "train" / "trained.json").write_text("{}")
    assert describe(folder, cell, {"qata": tmp_path}).startswith("trained, to be scored: own, noise140, ")


def test_a_reader_that_has_enough_is_no_error(tmp_path):
    command = [sys.executable, "-m", "tools", "benchmark", "--dry-run", "--output", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()  # as head does
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_a_budget_is_a_number_of_minutes(tmp_path, capsys):
    assert main(["train-all", "--plan", "ssa", "--budget", "0", "--data", str(tmp_path)]) == 2
    assert "--budget 0: give a number of minutes above 0" in capsys.readouterr().err
