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


def test_a_table_of_ones_own_is_no_data_of_the_protocols(tmp_path, capsys):
    from common.datasets import phantoms

    phantoms.write(tmp_path / "mine", count=20, size=64, inbox=0)
    assert main(["benchmark", "ssa", "--data", str(tmp_path / "mine"), "--output", str(tmp_path / "out")]) == 2
    assert "is no data set of the protocols; those are QaTa-COV19-v2" in capsys.readouterr().err


def test_a_budget_is_a_number_of_minutes(tmp_path, capsys):
    assert main(["train-all", "--plan", "ssa", "--budget", "0", "--data", str(tmp_path)]) == 2
    assert "--budget 0: give a number of minutes above 0" in capsys.readouterr().err
