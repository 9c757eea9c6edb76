"""Tables of one's own."""

import json
import shutil

import pytest

from common.benchmark.protocols import SCALES, tables
from common.benchmark.table_file import named_tables, read_table, unknown_ids
from common.benchmark.work import finished, run_cell
from common.bundle import BUNDLES, bundle_folder
from common.errors import UserError
from common.runtime.workflow import merged_config

from .conftest import TINY

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
        (with_row(fraction=0), "fraction 0 is none of the label fractions; use one of 0.01, 0.02, 0.05"),
        (with_row(fraction=True), "fraction is no number"),
        (changed(override={"x": 1}), "row 1: the configuration has no 'x'"),
        (with_row(override=[]), "override is no object"),
        (with_row(bundle="row 1: bundle mmi-unet: is no bundle"), "row 1: bundle mmi-unet: is no bundle"),
        (
            with_row(overlays=["dmeo"]),
            "overlay 'dmeo' is none of training that mmi_unet has; use some of demo, gpu, paper",
        ),
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


def c2seg(**more):
    return changed(override={}, rows=[{"name": "a", "bundle": "c2seg", **more}])


SEVERAL = {"loss::dice_weight": 1, "loss": {"_target_": "common.losses.Supervised"}}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"fraction": 0.5}, "row 1: 'fraction' cannot be overridden; give the row's key fraction"),
        ({"seed": 1}, "'seed' cannot be overridden; give --seeds"),
        ({"dataset": "csv"}, "'dataset' cannot be overridden; give the table's key dataset"),
        ({"dataset_dir": "x"}, "'dataset_dir' cannot be overridden; give --data"),
        ({"data_root": "x"}, "'data_root' cannot be overridden; give --data"),
        ({"train_split": "trainval"}, "'train_split' cannot be overridden; all rows learn from the training part"),
        ({"split": "train"}, "'split' cannot be overridden; --scale says which rows are scored"),
        ({"limit": 5}, "'limit' cannot be overridden; --scale"),
        ({"control": "default"}, "'control' cannot be overridden; name it in the table's evaluations"),
        ({"degrade": "blur3"}, "'degrade' cannot be overridden; name it in the table's evaluations"),
        *(
            ({name: 1}, f"{name!r} cannot be overridden; the benchmark sets it: leave it out")
            for name in (
                "output_dir", "run_dir", "weights", "weights_dir", "resume", "num_workers", "bundle_root", "deadline",
                "time_limit", "imports", "initialize", "run", "run::0", "training", "finalize",
            )
        ),
        ({"threshold": 0.1}, "'threshold' cannot be overridden; all rows are scored alike"),
        ({"validate::inferer": {}}, "'validate::inferer' cannot be overridden; all rows are scored alike"),
        ({"train::trainer::max_epochs": 1}, "'train::trainer::max_epochs' cannot be overridden; give max_epochs"),
        # what is handed on
        ({"train::dataset::data::fraction": 0.5}, "data::fraction' cannot be overridden, as fraction is handed on"),
        ({"train#dataset#data#splits": "x"}, "data::splits' cannot be overridden, as splits is handed on there"),
        ({"train::handlers": []}, "'train::handlers' cannot be overridden, as deadline is handed on there"),
        ({"train::handlers::10::_disabled_": True}, "10::_disabled_' cannot be overridden, as output_dir is handed on"),
        ({"train": {}}, "'train' cannot be overridden, as data_root is handed on there"),
        # ids and values
        ({"network_def::": 1}, "row 1: id 'network_def::' has an empty part"),
        ({"": 1}, "id '' has an empty part"),
        (SEVERAL, "'loss::dice_weight' lies in 'loss', which is overridden too"),
        ({"optimizer::_target_": "os.system"}, "optimizer::_target_ 'os.system' is in no configuration of mmi_unet"),
        ({"loss": {"_target_": "os.getcwd"}}, "loss::_target_ 'os.getcwd' is in no configuration"),
        ({"optimizer::params": [{"a": {"_target_": 3}}]}, "optimizer::params::0::a::_target_ '3' is in no"),
        # arguments
        ({"network_def::dropuot": 0.2}, "network_def::dropuot: common.networks.mmi_unet.MMIUNet takes no 'dropuot'; "
                                        "perhaps dropout"),
        ({"loss::wieght": 1}, "common.losses.Supervised takes no 'wieght'"),
        ({"train::handlers::7::patienc": 3}, "common.engines.EarlyStop takes no 'patienc'; perhaps patience"),
        ({"loss": {"_target_": "common.losses.Supervised", "zzz": 1}}, "loss: common.losses.Supervised takes no 'zzz'; "
                                                                       "see its arguments"),
        ({"loss::_target_": "common.engines.EarlyStop"}, "common.engines.EarlyStop takes no 'dice_weight'"),
    ],
)  # fmt: skip
def test_what_no_override_takes(tmp_path, override, words):
    for items in (with_row(override=override), {**with_row(), "override": override}):
        with pytest.raises(UserError) as error:
            read_table(write(tmp_path, items))
        assert "mine.json, row 1: " in str(error.value)
        assert words in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (
            {"override": {"image_checkpoint": "x"}},
            "row 1: 'image_checkpoint' cannot be overridden; the row begins with",
        ),
        ({"override": {"load_pretrained": False}}, "'load_pretrained' cannot be overridden; the row begins with"),
        ({"override": {"network_def::image_encoder::stage_one": None}}, "as image_checkpoint is handed on there"),
        ({"stage_one": {"seed": 3}}, "row 1, stage_one: 'seed' cannot be overridden; give --seeds"),
        ({"stage_one": {"fraction": 0.5}}, "stage_one: 'fraction' cannot be overridden; the first stage learns from"),
        ({"stage_one": {"weights": "x"}}, "stage_one: 'weights' cannot be overridden"),
        ({"stage_one": {"loss::softnes": 0}}, "common.losses.cacl.CaCL takes no 'softnes'; perhaps softness"),
        ({"stage_one": {"loss::": 0}}, "row 1, stage_one: id 'loss::' has an empty part"),
        ({"stage_one": {"loss::_target_": "x.y"}}, "stage_one: loss::_target_ 'x.y' is in no configuration of c2seg"),
        (
            {"override": {"splits": "volume_disjoint"}, "stage_one": {"splits": "published"}},
            "stage_one: has other splits than the row, whose it gets by itself; leave it out",
        ),
        ({"bundle": "ssa"}, "stage_one: ssa has no first stage (pretrain.json); leave it out"),
    ],
)
def test_what_two_stages_do_not_take(tmp_path, row, words):
    with pytest.raises(UserError) as error:
        read_table(write(tmp_path, c2seg(**{"stage_one": {}, **row})))
    assert words in str(error.value)


@pytest.mark.parametrize(
    "row",
    [
        {"train_limit": 8, "val_limit": 8, "max_epochs": 2, "epoch_length": 1, "image_size": [64, 64], "patience": 0},
        {"captions": "original", "laterality": "image", "blank_image": True, "draw": "sorted", "data_seed": 1},
        {"learning_rate": 0.1, "image_checkpoint": "x", "load_pretrained": False, "image_learning_rate": 0.1},
        {
            "network_def#gate": "none",
            "train::dataloader::batch_size": 2,
            "loss": {"_target_": "common.losses.Supervised"},
        },
        {"optimizer::betas": [0.9, 0.99], "train::trainer::anything": 1, "train::handlers::7::patience": 3},
        {"train::random_transforms::0::prob": 0.5, "train::random_transforms::1::_disabled_": True},
    ],
)
def test_what_is_a_rows_own_stays_so(tmp_path, row):
    (made,) = read_table(write(tmp_path, c2seg(override=row))).rows
    assert made.override == {name.replace("#", "::"): value for name, value in row.items()}
    first = {"image_checkpoint": "x", "validate::best_checkpoint::metric": "val_image_map"}
    (made,) = read_table(write(tmp_path, c2seg(stage_one=first))).rows
    assert made.stage_one == first
    both = {"splits": "volume_disjoint"}
    assert read_table(write(tmp_path, c2seg(stage_one=both, override=both))).rows[0].stage_one == both


def test_rows_of_the_projects_tables_could_be_ones_own(tmp_path):
    for table in tables(
        ["controls-qata", "c2seg", "c2seg-clinicdb", "semi_medref", "semi_medref-more", "ssa", "biclip"]
    ):
        rows = [
            {"name": row.name[:60], "bundle": row.bundle, "overlays": row.overlays, "override": row.override,
             "fraction": row.fraction} | ({} if row.stage_one is None else {"stage_one": row.stage_one})
            for row in table.rows
        ]  # fmt: skip
        mine = read_table(write(tmp_path, {"dataset": table.dataset, "rows": rows}))
        for one, other in zip(
            mine.cells(SCALES["C"], [0]).values(), table.cells(SCALES["C"], [0]).values(), strict=True
        ):
            assert one[0].name == other[0].name


def two(first, second, **more):
    rows = [{"name": "a", "bundle": "mmi_unet", **first}, {"name": "b", "bundle": "mmi_unet", **second}]
    return changed(**{"override": {}, "rows": rows, **more})


@pytest.mark.parametrize(
    ("items", "words"),
    [
        (changed(evaluations=[["own"]]), "mine.json: evaluations: item 1 is no text"),
        (changed(evaluations=["own", 3]), "mine.json: evaluations: item 2 is no text"),
        (with_row(overlays=[{"x": 1}]), "mine.json, row 1: overlays: item 1 is no text"),
        (with_row(overlays=[3]), "mine.json, row 1: overlays: item 1 is no text"),
        (with_row(fraction=0.3), "fraction 0.3 is none of the label fractions; use one of 0.01, 0.02, 0.05, 0.1, 0.15"),
        (with_row(overlays=["evaluate"]), "row 1: overlay 'evaluate' is none of training that mmi_unet has"),
        (with_row(overlays=["inference"]), "overlay 'inference' is none of training"),
        (with_row(overlays=["train"]), "overlay 'train' is none of training"),
        (with_row(overlays=["multi_gpu_train"]), "overlay 'multi_gpu_train' is none of training"),
        (with_row(overlays=["metadata"]), "overlay 'metadata' is none of training"),
        (with_row(overlays=["../configs/paper"]), "overlay '../configs/paper' is none of training"),
        (with_row(overlays=["paper", "paper"]), "overlay 'paper' is given twice"),
        (c2seg(overlays=["metadata_polyp"]), "overlay 'metadata_polyp' is none of training that c2seg has; use some of "
                                             "demo, gpu, paper, polyp"),
        (c2seg(overlays=["pretrain"]), "overlay 'pretrain' is of a first stage; give the row's key stage_one"),
        (with_row(name=""), "row 1: name '' is empty"),
        (with_row(name=" "), "row 1: name ' ' is empty"),
        (with_row(name="a "), "or has blanks around it"),
        (with_row(name="a\nb"), r"name 'a\nb' is empty, longer than 60 characters, of several lines"),
        (with_row(name="x" * 61), "is empty, longer than 60 characters"),
        (two({}, {}), "mine.json: rows 'a' and 'b' are the very same training; leave one out"),
        (two({"override": {"loss#ce_weight": 1}}, {"override": {"loss::ce_weight": 1}}), "rows 'a' and 'b' are"),
        (two({"override": {"batch_size": 4}}, {}, override={"batch_size": 4}), "rows 'a' and 'b' are the very same"),
        (two({"bundle": str(BUNDLES / "mmi_unet")}, {}), "rows 'a' and 'b' are the very same training"),
        (two({"override": {"splits": "volume_disjoint"}}, {}), "rows 'a' and 'b' differ in splits, and so in the rows"),
        (two({"override": {"data_seed": 1}}, {}), "rows 'a' and 'b' differ in data_seed"),
        (changed(curve="degrade"), "mine.json: curve 'degrade' has no points; give evaluations some of noise140"),
        (two({}, {"overlays": ["paper"]}, curve="fraction"), "mine.json: curve 'fraction' has one point"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused(tmp_path, items, words):
    with pytest.raises(UserError) as error:
        read_table(write(tmp_path, items))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "items",
    [
        with_row(name="x" * 60),
        two({}, {"fraction": 0.5}, curve="fraction"),
        two({}, {"override": {"batch_size": 2}}, curve="degrade", evaluations=["blur3"]),
        two({}, {"override": {"batch_size": 2}}, override={"data_seed": 1, "splits": "volume_disjoint"}),
    ],
)
def test_what_can_be_compared_is_taken(tmp_path, items):
    assert read_table(write(tmp_path, items)).curve == items.get("curve")


def test_names_of_the_projects_tables_of_methods_are_its_own(tmp_path):
    with pytest.raises(UserError, match=r"main-mine\.json: main-\.\.\. is a name of the project's own tables"):
        read_table(write(tmp_path, MINE, "main-mine.json"))


def test_a_bundle_by_its_folder_is_that_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(BUNDLES.parent)
    ways = ["unet", "bundles/unet", "bundles/unet/", str(BUNDLES / "unet")]
    made = [read_table(write(tmp_path, with_row(bundle=bundle))) for bundle in ways]
    assert {table.rows[0].bundle for table in made} == {"unet"}
    assert len({table.cells(SCALES["C"], [0])["a"][0].name for table in made}) == 1


def test_a_bundle_elsewhere_is_trained_from_any_folder(tmp_path, monkeypatch, qata_phantoms):
    shutil.copytree(BUNDLES / "unet" / "configs", tmp_path / "mine" / "configs")
    monkeypatch.chdir(tmp_path)
    table = read_table(write(tmp_path, with_row(bundle="mine")))
    (cell,) = table.cells(TINY, [0])["a"]
    assert cell.bundle == str(tmp_path / "mine")
    monkeypatch.chdir(BUNDLES.parent)
    folder = tmp_path / "cells" / cell.name
    folder.mkdir(parents=True)
    (folder / "cell.json").write_text(cell.as_json())
    run_cell(folder, qata_phantoms)
    assert finished(folder, cell)


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


def test_a_first_stage_has_its_rows_images_and_sentences(tmp_path):
    row = {"name": "a", "bundle": "c2seg", "override": {"image_size": [64, 64], "learning_rate": 0.5},
           "stage_one": {"train_limit": 30}}  # fmt: skip
    table = read_table(write(tmp_path, changed(override={"laterality": "image", "train_limit": 20}, rows=[row])))
    ((cell,),) = table.cells(SCALES["C"], [0]).values()
    first = cell.stage_one["override"]
    assert (first["laterality"], first["image_size"], first["train_limit"]) == ("image", [64, 64], 30)
    assert first["learning_rate"] == 0.001  # its own, of the scale
    assert cell.override["train_limit"] == 20
