"""Tables of one's own."""

import json

import pytest

from common.benchmark.protocols import SCALES
from common.benchmark.table_file import named_tables, read_table, unknown_ids
from common.bundle import bundle_folder
from common.errors import UserError
from common.runtime.workflow import merged_config

MINE = {
    "title": "Without its heads",
    "dataset": "qata",
    "evaluations": ["mirrored"],
    "override": {"learning_rate": 0.5, "batch_size": 4},
    "rows": [
        {"name": "as it is", "bundle": "mmi_unet", "fraction": 0.5},
        {"name": "other", "bundle": "c2seg", "override": {"network_def::gate": "none", "learning_rate": 0.01},
         "stage_one": {"loss::softness": 0}},
    ],
}  # fmt: skip


def write(folder, items, name="mine.json"):
    path = folder / name
    path.write_text(json.dumps(items))
    return path


def changed(**more):
    return {**json.loads(json.dumps(MINE)), **more}


def with_row(**more):
    return changed(override={}, rows=[{"name": "a", "bundle": "mmi_unet", **more}])


def test_rows_become_cells_of_each_seed(tmp_path):
    table = read_table(write(tmp_path, MINE))
    assert (table.key, table.title, table.reference) == ("mine", "Without its heads", "as it is")
    made = table.cells(SCALES["C"], [0, 3])
    assert [cell.seed for cell in made["other"]] == [0, 3]
    first, other = made["as it is"][0], made["other"][0]
    assert first.evaluations == ("own", "mirrored")
    assert first.fraction == 0.5
    assert first.override["fraction"] == 0.5
    assert first.overlays == ("demo",)
    assert other.override["network_def::gate"] == "none"
    assert other.override["train_limit"] == 1500
    rates = [(cell.override["learning_rate"], cell.override["batch_size"]) for cell in (first, other)]
    assert rates == [(0.5, 4), (0.01, 4)]  # a row's own wins
    assert other.stage_one["override"]["loss::softness"] == 0


def test_what_is_left_out_has_its_usual_value(tmp_path):
    table = read_table(write(tmp_path, {"dataset": "csv", "rows": [{"name": "a", "bundle": "unet"}]}))
    assert (table.title, table.reference, table.curve) == ("mine", "a", None)
    assert table.evaluations == ("own", "default", "shuffled", "mirrored", "blank", "original")
    assert table.rows[0].stage_one is None


def test_files_and_names_are_taken_together(tmp_path):
    path = str(write(tmp_path, MINE))
    assert [table.key for table in named_tables(["ssa", path, path])] == ["ssa", "mine"]
    (tmp_path / "b").mkdir()
    other = str(write(tmp_path / "b", changed(title="Another")))
    with pytest.raises(UserError, match=r"b/mine\.json: another file holds a table called mine"):
        named_tables([path, other])
    with pytest.raises(UserError, match="the project has a table called ssa"):
        named_tables([str(write(tmp_path, MINE, "ssa.json"))])


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([], "mine.json: is no JSON object"),
        ({"dataset": "qata"}, "mine.json: lacks 'rows'"),
        (changed(rows=[]), "has no rows"),
        (changed(row=1), "has an unknown key 'row'; known are title, dataset, rows"),
        (changed(dataset="qatar"), "dataset 'qatar' is unknown; use one of qata, mosmed, kvasir, clinicdb, csv"),
        (changed(evaluations=["mirror"]), "evaluation 'mirror' is unknown"),
        (changed(curve="dose"), "curve 'dose' is unknown; use fraction or degrade"),
        (changed(reference="none"), "reference 'none' is no row; rows are as it is, other"),
        (changed(title=3), "title is no text"),
        (changed(rows=[{"name": "a"}]), "mine.json, row 1: lacks 'bundle'"),
        (changed(rows=["a"]), "row 1: is no JSON object"),
        (changed(rows=[{"name": "a", "bundle": "unet"}] * 2), "two rows are called 'a'"),
        (with_row(fraction=0), "fraction 0 is no part of the masks"),
        (with_row(fraction=True), "fraction is no number"),
        (changed(override={"x": 1}), "row 1: the configuration has no 'x'"),
        (with_row(override=[]), "override is no object"),
        (with_row(bundle="mmi-unet"), "mmi-unet"),
        (with_row(overlays=["dmeo"]), "dmeo.json"),
        (with_row(override={"learning_rat": 1}), "row 1: the configuration has no 'learning_rat'"),
        (with_row(override={"train::trainer::max_epoch::x": 1}), "has no 'train::trainer::max_epoch::x'"),
        (with_row(override={"learning_rate": "$1 + 1"}), r"learning_rate: a value that starts with $, % or @"),
        (with_row(reference="b"), "reference 'b' is no row"),
    ],
)
def test_what_is_no_table_is_one_line(tmp_path, items, words):
    with pytest.raises(UserError) as error:
        read_table(write(tmp_path, items))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_no_file_and_no_json(tmp_path):
    with pytest.raises(UserError, match=r"none\.json: cannot be read as a table"):
        named_tables([str(tmp_path / "none.json")])
    path = tmp_path / "mine.json"
    path.write_bytes(b"\xff{")
    with pytest.raises(UserError, match="cannot be read as a table"):
        read_table(path)
    with pytest.raises(UserError, match="name the file with a-z"):
        read_table(write(tmp_path, MINE, "My Table.json"))


def test_ids_that_a_configuration_has_or_could_take():
    config = merged_config(bundle_folder("mmi_unet"), ["train"])
    assert unknown_ids(config, ["batch_size", "network_def::an_argument", "validate::handlers::0::epoch"]) == []
    wrong = ["batchsize", "network_df::heads", "validate::handlers::999", "validate::handlers::x", "batch_size::x"]
    assert unknown_ids(config, wrong) == wrong
