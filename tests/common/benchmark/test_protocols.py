import json
from dataclasses import replace

import pytest

from common.benchmark import published
from common.benchmark.protocols import BASELINES, METHODS, PROTOCOLS, SCALES, tables
from common.benchmark.results import fill
from common.benchmark.table_file import unknown_ids
from common.bundle import bundle_folder, configuration_files
from common.errors import UserError
from common.runtime.workflow import merged_config

TABLES = tables(list(PROTOCOLS))


def test_every_cell_is_of_configurations_that_are_there():
    seen = set()
    for scale in SCALES.values():
        for table in TABLES:
            for cells in table.cells(scale, (0,)).values():
                for cell in cells:
                    stage = [cell.stage_one["overlay"]] if cell.stage_one is not None else []
                    override = {**cell.override, **(cell.stage_one["override"] if stage else {})}
                    key = (cell.bundle, cell.overlays, tuple(stage), json.dumps(override, sort_keys=True))
                    if key in seen:
                        continue
                    seen.add(key)
                    folder = bundle_folder(cell.bundle)
                    names = ["train", *cell.overlays, *stage]
                    configuration_files(folder, names)
                    config = merged_config(folder, names)
                    # an id that switches a component off is one that a configuration need not have
                    ids = [name for name in override if not name.endswith("::_disabled_")]
                    assert unknown_ids(config, ids) == [], f"{cell.bundle} {names}"
    assert len(seen) > 60


def test_rows_of_a_table_have_names_of_their_own_and_the_reference_is_one():
    assert len({table.key for table in TABLES}) == len(TABLES)
    for table in TABLES:
        names = [row.name for row in table.rows]
        assert len(set(names)) == len(names)
        assert table.reference in names


def test_the_five_methods_and_their_baselines_are_compared():
    assert {row.bundle for row in (*METHODS, *BASELINES)} == {
        "unet", "mmi_unet", "guide_decoder", "ssa", "biclip", "c2seg", "causal_clipseg", "semi_medref",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("table", "row", "dice", "definition"),
    [
        ("main-qata", "SSA", 91.65, "micro"),
        ("main-qata", "C2Seg", 85.25, "per_image"),
        ("main-mosmed", "BiCLIP", 80.80, "micro"),
        ("main-kvasir", "C2Seg", 91.92, "near_micro"),
        ("semi_medref", "+ T-PatchMix", 87.05, "micro"),
        ("fractions-semi_medref-qata", "Semi-MedRef, 2 %", 87.25, "micro"),
        ("fractions-biclip-mosmed", "EF-UNet, 1 %", 33.68, "micro"),
        ("fractions-ssa-qata", "SSA, 15 %", 88.92, "micro"),
        ("ssa", "DSOT", 91.01, "micro"),
        ("c2seg-clinicdb", "(b) DualA", 89.56, "per_image"),
        ("causal_clipseg", "literal (the default)", 85.21, "per_image"),
    ],
)
def test_the_papers_number_stands_beside_the_row(tmp_path, table, row, dice, definition):
    (one,) = fill(tmp_path, tables([table]), SCALES["paper"], (0,))
    line = next(line for line in one.lines if line.row.name == row)
    assert (line.paper().dice, line.paper().definition) == (dice, definition)


def test_a_row_that_names_a_published_one_finds_it_somewhere():
    named = {row.published for table in TABLES for row in table.rows if row.published}
    for paper, name in named:
        assert any(name in (row.method, row.method.split(":")[0]) for row in published.rows(paper=paper)), (paper, name)


def test_a_first_stage_goes_with_its_second():
    cells = tables(["c2seg"])[0].cells(SCALES["C"], (0, 1))
    assert cells["(d) BCAM and K-Gate"][0].stage_one is None
    hard = cells["(e) after stage I with hard labels"][0].stage_one
    assert hard["overlay"] == "pretrain"
    assert hard["override"]["loss::softness"] == 0
    assert hard["override"]["train_limit"] == 1500
    assert [cell.seed for cell in cells["(f) after stage I (CaCL)"]] == [0, 1]  # ends with all seeds
    assert [cell.seed for cell in cells["(c) BCAM"]] == [0]


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(
        UserError, match=r"mian: is no protocol and no table; protocols are main, controls, .*main-qata"
    ):
        tables(["mian"])


def test_ends_come_first_then_their_other_seeds_then_what_lies_between():
    (table,) = tables(["biclip"])
    for first, second in ((0, 1), (3, 0)):
        cells = table.cells(SCALES["G"], (first, second)).items()
        value = {(cell.seed, row): cell.value for row, made in cells for cell in made}
        assert value[first, "BiCLIP"] > value[second, "BiCLIP"] > value[first, "without cycle"]
        assert (second, "without cycle") not in value


def test_a_first_stage_learns_from_no_image_that_its_row_is_scored_on():
    (table,) = tables(["disjoint-mosmed"])
    for scale in SCALES.values():
        (cell,) = table.cells(scale, (0,))["C2Seg"]
        assert cell.override["splits"] == cell.stage_one["override"]["splits"] == "volume_disjoint"


def test_the_other_captions_are_those_that_a_scale_does_not_learn_from():
    (table,) = tables(["controls-qata"])
    name = table.rows[-1].name
    captions = {scale: table.cells(SCALES[scale], (0,))[name][0].override["captions"] for scale in SCALES}
    assert captions == {"C": "original", "G": "original", "paper": "canonical"}
    # a row of one's own has what it says
    row = replace(table.rows[-1], override={"captions": "original"})
    cells = replace(table, rows=(*table.rows[:-1], row)).cells(SCALES["paper"], (0,))
    assert cells[name][0].override["captions"] == "original"
