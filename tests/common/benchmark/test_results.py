"""Tables, documents and the page, made of evaluations that are written here without a network."""

import csv
import hashlib
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from common.benchmark import plots
from common.benchmark.cells import OWN
from common.benchmark.grid import prepare
from common.benchmark.page import blocks, fill_documents, write_results
from common.benchmark.protocols import SCALES, tables
from common.benchmark.report import (
    block_of_controls,
    block_of_costs,
    block_of_degradations,
    block_of_degraded_tests,
    block_of_scores,
    block_of_subsets,
    block_of_tests,
)
from common.benchmark.results import fill, flat
from common.benchmark.write import write
from common.metrics import score_case, summarise, write_scores
from common.metrics.reliability import Reliability

TRUTH = np.zeros((16, 16), bool)
TRUTH[4:12, 4:12] = True


def evaluation(folder, good, images=12):
    """Scores of images whose prediction has ``good`` of the 8 rows of the lesion."""
    rows, reliability = [], Reliability()
    for number in range(images):
        pred = TRUTH.copy()
        pred[4 + max(1, good - number % 2) : 12] = False
        rows.append(score_case(pred, TRUTH, case={"image": f"i{number:02d}.png", "subject": f"s{number // 2}"}))
        reliability.add(np.where(pred, 0.8, 0.1), TRUTH)
    about = {"split": "validation", "grid": "source", "reliability": reliability.summary()}
    write_scores(rows, about | summarise(rows), folder)
    sidecar = hashlib.sha256((folder.parents[1] / "train" / "model.json").read_bytes()).hexdigest()
    score = {"split": "validation", "limit": 500}
    (folder / "score.json").write_text(json.dumps({"score": score, "sidecar": sidecar}))


def done(folder, cell, good, **conditions):
    """A cell as the runner leaves it."""
    train = folder / "train"
    train.mkdir()
    (train / "model.pt").write_text("")
    sidecar = {
        "commit": "c" * 40, "data": {"items": 9, "sha256": "d" * 64}, "epoch": 3, "versions": {"torch": "2"},
        "device": "cpu", "seed": cell.seed,
    }  # fmt: skip
    (train / "model.json").write_text(json.dumps(sidecar))
    (train / "trained.json").write_text(json.dumps({"steps": 30, "epochs": 4, "seconds": 12.3}))
    for name in cell.evaluations:
        evaluation(folder / "scores" / name, conditions.get(name, good))
    (folder / "status.json").write_text(json.dumps({"state": "done"}))


@pytest.fixture
def made(tmp_path):
    """SSA's ablation with two seeds at the ends: DSOT has failed, CDG was not run."""
    table = tables(["ssa"])[0]
    cells = table.cells(SCALES["C"], (0, 1))
    for name, good in {"baseline": 4, "SSA: both": 7}.items():
        for cell in cells[name]:
            ((folder, _),) = prepare(tmp_path, [cell]).items()
            done(folder, cell, good)
    ((folder, _),) = prepare(tmp_path, cells["DSOT"]).items()
    (folder / "status.json").write_text(json.dumps({"state": "failed", "error": "out of | memory"}))
    return fill(tmp_path, [table], SCALES["C"], (0, 1))


def test_a_line_holds_all_seeds_and_the_papers_number(made):
    rows = {row["row"]: row for row in block_of_scores(made[0]).rows}
    # 8 columns; 7 and 6 of 8 rows in turn: 2 * 52 / (52 + 64) = 89.66 % micro
    assert rows["SSA: both"]["Dice micro, %"].startswith("89.66 [")
    assert rows["SSA: both"]["Dice micro, %"].endswith("(89.66, 89.66)")
    assert rows["SSA: both"]["seeds"] == "0, 1"
    assert rows["SSA: both"]["paper: Dice / IoU, %"] == "91.65 / 84.60 (micro)"
    assert rows["CDG"] == {"row": "CDG", "paper: Dice / IoU, %": "90.92 / 83.36 (micro)", "seeds": "not run"}
    assert rows["DSOT"]["seeds"] == "failed"
    assert any("DSOT, seed 0: failed: out of | memory" in note for note in block_of_scores(made[0]).notes)


def test_tests_are_against_the_reference(made):
    (row,) = block_of_tests(made[0]).rows
    assert row["row"] == "SSA: both"
    assert row["verdict micro"] == "this one higher"
    assert row["difference micro, points"].startswith("28.79 [")  # 89.66 less 2 * 28 / (28 + 64)


def test_one_seed_is_said_to_be_one(tmp_path):
    table = tables(["ssa"])[0]
    cells = table.cells(SCALES["C"], (0,))
    for name, good in {"baseline": 4, "SSA: both": 7}.items():
        ((folder, cell),) = prepare(tmp_path, cells[name]).items()
        done(folder, cell, good)
    (filled,) = fill(tmp_path, [table], SCALES["C"], (0,))
    (row,) = block_of_tests(filled).rows
    assert row["verdict micro"] == "this one higher, by one seed"
    assert row["seeds"] == "0"
    assert row["between seeds, points"] == ""


def test_what_seeds_differ_by_is_no_difference_between_methods(tmp_path):
    table = tables(["ssa"])[0]
    cells = table.cells(SCALES["C"], (0, 1))
    # the baseline's second seed is as far from its first as the methods are apart
    for cell, good in zip([*cells["baseline"], cells["SSA: both"][0], cells["DSOT"][0]], (4, 7, 7, 2), strict=True):
        ((folder, _),) = prepare(tmp_path, [cell]).items()
        done(folder, cell, good)
    (filled,) = fill(tmp_path, [table], SCALES["C"], (0, 1))
    # 2 * 52 / (52 + 64) less 2 * 28 / (28 + 64)
    assert filled.tests["SSA: both"]["micro"]["seeds_differ"] == pytest.approx(104 / 116 - 56 / 92)
    assert filled.tests["SSA: both"]["micro"]["verdict"] == "no difference seen"
    assert filled.tests["DSOT"]["micro"]["verdict"] == "second higher, by one seed"  # further off than that
    rows = {row["row"]: row for row in block_of_tests(filled).rows}
    assert rows["DSOT"]["between seeds, points"].startswith("28.79 / ")


def test_only_seeds_that_both_rows_have_are_compared(tmp_path):
    """A good second seed of the reference says nothing against a row whose second seed was not run."""
    table = tables(["main-qata"])[0]
    cells = table.cells(SCALES["C"], (0, 1))
    wanted = {
        "MMI-UNet": {0: 4, 1: 7}, "SSA": {0: 4}, "BiCLIP": {1: 7}, "C2Seg": {0: 2, 1: 2}, "CausalCLIPSeg": {0: 6, 1: 6},
    }  # fmt: skip
    for name, seeds in wanted.items():
        for seed, good in seeds.items():
            ((folder, cell),) = prepare(tmp_path, [cells[name][seed]]).items()
            done(folder, cell, good)
    (filled,) = fill(tmp_path, [table], SCALES["C"], (0, 1))
    tests = {name: test["micro"] for name, test in filled.tests.items()}
    assert tests["SSA"]["difference"] == tests["BiCLIP"]["difference"] == 0
    assert {name: test["of_seeds"] for name, test in filled.tests.items()} == {
        "SSA": [0], "BiCLIP": [1], "C2Seg": [0, 1], "CausalCLIPSeg": [0, 1],
    }  # fmt: skip
    # (56 + 104) / (92 + 116) less 24 / 76, which is more than 28.79 points between the reference's seeds
    assert tests["C2Seg"]["difference"] == pytest.approx(24 / 76 - 160 / 208)
    assert tests["C2Seg"]["verdict"] == "second higher"
    assert tests["CausalCLIPSeg"]["verdict"] == "no difference seen"


def test_one_rows_seeds_decide_on_no_other_rows(tmp_path):
    table = tables(["main-qata"])[0]
    cells = table.cells(SCALES["C"], (0, 1))
    for name, goods in {"MMI-UNet": (6, 6), "SSA": (4, 4), "BiCLIP": (7, 1)}.items():
        for cell, good in zip(cells[name], goods, strict=True):
            ((folder, cell),) = prepare(tmp_path, [cell]).items()
            done(folder, cell, good)
    (filled,) = fill(tmp_path, [table], SCALES["C"], (0, 1))
    assert filled.tests["SSA"]["micro"]["verdict"] == "second higher"  # though one of BiCLIP's seeds failed to learn
    assert filled.tests["BiCLIP"]["micro"]["verdict"] == "no difference seen"


def test_rows_of_one_and_of_two_seeds_share_the_columns_of_parts(tmp_path):
    table = tables(["main-qata"])[0]
    cells = table.cells(SCALES["C"], (0, 1))
    for name, seeds in {"MMI-UNet": (0, 1), "SSA": (0,)}.items():
        for seed in seeds:
            ((folder, cell),) = prepare(tmp_path, [cells[name][seed]]).items()
            done(folder, cell, 6)
    (filled,) = fill(tmp_path, [table], SCALES["C"], (0, 1))
    parts = {line.row.name: {"small lesions": summarise([r for s in line.rows() for r in s])} for line in filled.scored}
    block = block_of_subsets(filled, parts)
    assert block.columns == ("row", "small lesions (12)")
    assert [row["row"] for row in block.rows] == ["MMI-UNet", "SSA"]


def test_a_row_that_has_nothing_to_be_tested_against_says_so(tmp_path):
    table = tables(["main-qata"])[0]
    cells = table.cells(SCALES["C"], (0, 1))
    ((folder, cell),) = prepare(tmp_path, [cells["SSA"][0]]).items()
    done(folder, cell, 6)
    block = block_of_tests(fill(tmp_path, [table], SCALES["C"], (0, 1))[0])
    assert (block.rows, block.notes) == ([], ["SSA: not tested: MMI-UNet has no numbers"])
    ((folder, cell),) = prepare(tmp_path, [cells["MMI-UNet"][1]]).items()
    done(folder, cell, 6)
    block = block_of_tests(fill(tmp_path, [table], SCALES["C"], (0, 1))[0])
    assert block.notes == ["SSA: not tested: MMI-UNet has no numbers of the same seed"]
    assert "not tested" in block.markdown()


def test_controls_and_degradations_stand_in_tables_of_their_own(tmp_path):
    table = replace(tables(["main-qata"])[0], evaluations=(OWN, "shuffled", "noise140"))
    ((folder, cell),) = prepare(tmp_path, [table.cells(SCALES["C"], (0,))["SSA"][0]]).items()
    done(folder, cell, 6)
    filled = fill(tmp_path, [table], SCALES["C"], (0,))
    assert block_of_controls(filled[0]).columns == ("row", "seeds", "its own sentence", "another image's")
    assert block_of_degradations(filled[0]).columns == ("row", "seeds", "clean", "dose 140")
    assert write_results(tmp_path, filled, SCALES["C"], {}, {}, {})[0].is_file()


def test_the_other_captions_are_a_column_at_every_scale(tmp_path):
    for name, column in (("C", "as typed"), ("paper", "canonical")):
        table = tables(["main-qata"])[0]
        ((folder, cell),) = prepare(tmp_path / name, [table.cells(SCALES[name], (0,))["SSA"][0]]).items()
        done(folder, cell, 6)
        for scores in (folder / "scores").iterdir():
            score = json.loads((scores / "score.json").read_text())
            (scores / "score.json").write_text(json.dumps(score | {"score": dict(cell.score)}))
        (filled,) = fill(tmp_path / name, [table], SCALES[name], (0,))
        assert column in block_of_controls(filled).columns


def test_a_report_without_methods_keeps_what_was_measured(tmp_path, made):
    (tmp_path / "costs.json").write_text('{"SSA": {}}')
    write(tmp_path, tables(["ssa"]), SCALES["C"], (0, 1), {}, costs=True, documents=False)
    assert (tmp_path / "costs.json").read_text() == '{"SSA": {}}'


def test_a_name_is_drawn_as_it_is(made):
    made[0].lines[0].row = replace(made[0].lines[0].row, name="$lr_$")
    assert "$lr_$" in plots.bars(made[0])


def test_results_csv_has_a_line_for_every_cell(made):
    rows = flat(made)
    assert len(rows) == 4 * 4 + 2  # ends have four evaluations
    assert {row["state"] for row in rows} == {"done", "failed", "waiting"}
    failed = next(row for row in rows if row["state"] == "failed")
    assert failed["reason"] == "out of | memory"
    good = next(row for row in rows if row["row"] == "SSA: both")
    assert good["dice_micro"] == pytest.approx(104 / 116)
    assert good["dice_micro_low"] <= good["dice_micro"] <= good["dice_micro_high"]
    assert good["commit"] == "c" * 40


def test_the_files(tmp_path, made):
    costs = {
        "U-Net": {
            "parameters": {"all": 2_000_000, "trained": 1_000_000}, "flops": 3e9, "milliseconds": 4.0,
            "peak_bytes": None, "image_size": "112 x 112", "device": "cpu", "threads": 1,
        }
    }  # fmt: skip
    picture = np.zeros((8, 8, 3), np.uint8)
    paths = write_results(tmp_path / "out", made, SCALES["C"], {}, costs, {"Best <cases>": picture})
    text = paths[0].read_text()
    assert "| SSA: both | 0, 1 | 89.66 [" in text
    assert "cccccccccccc" in text
    assert "Scale C: small networks" in text
    assert "83.97" in text  # MMI-UNet under both definitions
    with paths[1].open() as file:
        assert len(list(csv.DictReader(file))) == 18
    page = paths[2].read_text()
    assert "Best &lt;cases&gt;" in page
    assert "out of | memory" in page
    assert page.count("<svg") == 1
    assert not re.search(r"""(src|href)=['"]?https?:""", page)  # opens without a network


def test_plots_are_the_same_bytes_again(made):
    assert plots.bars(made[0]) == plots.bars(made[0])


def test_documents_are_filled_and_never_with_less(tmp_path, made, monkeypatch):
    card = tmp_path / "bundles" / "ssa" / "docs" / "README.md"
    card.parent.mkdir(parents=True)
    card.write_text("before\n<!-- numbers:ssa -->\nNot measured yet.\n<!-- /numbers -->\nafter\n")
    monkeypatch.setattr("common.benchmark.page.bundle_folder", lambda name: tmp_path / "bundles" / name)
    said = []
    results = tmp_path / "out.md"
    results.write_text("# Results\n")
    fill_documents(tmp_path, made, SCALES["C"], results, said.append)
    assert (tmp_path / "RESULTS.md").read_text() == "# Results\n"
    text = card.read_text()
    assert "| SSA: both | 0, 1 | 89.66" in text
    assert "| CDG | not run |" in text
    assert text.endswith("after\n")
    assert said[1:] == [f"{card}: numbers:ssa filled"]
    # a folder in which only one row was run
    root = made[0].lines[0].runs[0].folder.parent.parent
    shutil.rmtree(root / "cells" / made[0].lines[0].runs[0].folder.name)
    shutil.rmtree(root / "cells" / made[0].lines[0].runs[1].folder.name)
    fill_documents(tmp_path, fill(root, [made[0].table], SCALES["C"], (0, 1)), SCALES["C"], results, said.append)
    assert card.read_text() == text
    assert said[-1] == f"{card}: numbers:ssa left as it is: it has more numbers than there are for ssa here"


def test_controls_and_degradations_are_columns(tmp_path):
    for key, condition in (("main-qata", "mirrored"), ("degradations-qata", "blur7")):
        table = tables([key])[0]
        wanted = table.cells(SCALES["C"], (0,))["BiCLIP"][0]
        ((folder, cell),) = prepare(tmp_path / key, [wanted]).items()
        done(folder, cell, 7, **{condition: 3})
        (filled,) = fill(tmp_path / key, [table], SCALES["C"], (0,))
        block = (block_of_controls if key == "main-qata" else block_of_degradations)(filled)
        assert block.rows[0]["row"] == "BiCLIP"
        column = {"mirrored": "sides swapped", "blur7": "blur 7"}[condition]
        # 3 and 2 of 8 rows: 2 * 20 / (20 + 64); per image (48 / 88 + 32 / 80) / 2
        assert block.rows[0][column] == "47.62 / 47.27"
        assert block.rows[0]["its own sentence" if key == "main-qata" else "clean"] == "89.66 / 89.52"
        if table.curve:
            drawn = plots.curve(filled)
            assert drawn.startswith("<svg")
            assert 'id="axes_2"' in drawn  # no line leads from noise to blur
            assert [x for x, *_ in plots._over_degradation(filled, "blur")["BiCLIP"]] == [
                "clean", "blur 3", "blur 5", "blur 7",
            ]  # fmt: skip
            assert block.rows[1]["row"] == "BiCLIP: the paper's Dice / IoU"
            assert block.rows[1]["blur 7"] == "88.01 / 78.59 (micro)"
        assert plots.reliability(filled.scored).startswith("<svg")


def test_rows_are_tested_on_worse_pictures_too(tmp_path):
    """As good on clean pictures, worse under noise; under one blur its seeds differ by more than the rows do."""
    table = tables(["degradations-qata"])[0]
    cells = table.cells(SCALES["C"], (0, 1))
    for name, under in {
        "EF-UNet": [{"noise110": 6, "blur7": 6}] * 2,
        "BiCLIP": [{"noise110": 3, "blur7": 7}, {"noise110": 3, "blur7": 3}],
    }.items():
        for cell, conditions in zip(cells[name], under, strict=True):
            ((folder, cell),) = prepare(tmp_path, [cell]).items()
            done(folder, cell, 7, **conditions)
    (filled,) = fill(tmp_path, [table], SCALES["C"], (0, 1))
    assert filled.tests["BiCLIP"]["micro"]["verdict"] == "no difference seen"
    assert filled.degraded_tests["noise110"]["BiCLIP"]["micro"]["verdict"] == "second higher"
    assert filled.degraded_tests["blur7"]["BiCLIP"]["micro"]["verdict"] == "no difference seen"
    # six conditions are one family: Holm's first factor is six
    one = filled.degraded_tests["noise110"]["BiCLIP"]["micro"]
    assert one["p_holm"] == pytest.approx(6 * one["p"])
    block = block_of_degraded_tests(filled)
    (row,) = block.rows
    assert row["dose 110"].endswith(": EF-UNet higher")
    assert row["blur 7"].endswith(": none seen")
    # 7 and 6 of 8 rows: 2 * 52 / (52 + 64); 3 and 2: 2 * 20 / (20 + 64)
    assert row["between seeds at most, points"] == f"{100 * (104 / 116 - 40 / 84):.2f}"
    assert block_of_degraded_tests(fill(tmp_path, tables(["main-qata"]), SCALES["C"], (0, 1))[0]) is None


def test_conditions_are_compared_on_the_same_seeds(tmp_path):
    table = tables(["main-qata"])[0]
    cells = table.cells(SCALES["C"], (0, 1))["SSA"]
    for cell, good in zip(cells, (7, 2), strict=True):
        ((folder, _),) = prepare(tmp_path, [cell]).items()
        done(folder, cell, good)
    shutil.rmtree(folder / "scores" / "mirrored")  # the second seed's
    (filled,) = fill(tmp_path, [table], SCALES["C"], (0, 1))
    (row,) = block_of_controls(filled).rows
    assert row["seeds"] == "0"
    assert row["its own sentence"] == row["sides swapped"] == "89.66 / 89.52"
    assert filled.lines[2].seeds == [0, 1]


def test_notes_are_html(tmp_path):
    from common.benchmark.page import _marked

    assert _marked("`a<b` is *very* odd") == "<code>a&lt;b</code> is <em>very</em> odd"


def test_curves_over_the_share_of_masks(tmp_path):
    table = tables(["fractions-ssa-qata"])[0]
    cells = table.cells(SCALES["C"], (0,))
    for name, good in {"SSA, 15 %": 5, "SSA, 50 %": 6, "SSA, 100 %": 7, "MMI-UNet, 15 %": 4}.items():
        ((folder, cell),) = prepare(tmp_path, cells[name]).items()
        done(folder, cell, good)
    (filled,) = fill(tmp_path, [table], SCALES["C"], (0,))
    points = plots._over_fraction(filled)
    assert [point[0] for point in points["SSA"]] == [15, 50, 100]
    assert sorted(p[1] for p in points["SSA"]) == [p[1] for p in points["SSA"]]
    assert ">MMI-UNet<" not in plots.curve(filled)  # one point is no curve

    # whatever rows are called: those of one method are a curve
    names = {"SSA, 15 %": "few", "SSA, 50 %": "half", "SSA, 100 %": "all", "MMI-UNet, 15 %": "another, few"}
    for line in filled.lines:
        line.row = replace(line.row, name=names.get(line.row.name, line.row.name))
    assert {name: len(line) for name, line in plots._over_fraction(filled).items()} == {"few": 3, "another": 1}


def test_no_numbers_no_table(tmp_path):
    filled = fill(tmp_path, tables(["main-mosmed"]), SCALES["C"], (0,))
    assert [block.title for block, _ in blocks(filled, SCALES["C"], {}, {})] == [
        "Methods on MosMedData+",
        "What was run",
    ]
    text = write_results(tmp_path, filled, SCALES["C"], {}, {}, {})[0].read_text()
    assert "not at hand" not in text
    assert "| SSA | not run |" in text
    filled = fill(tmp_path, tables(["main-mosmed"]), SCALES["C"], (0,), {"qata"})
    text = write_results(tmp_path, filled, SCALES["C"], {}, {}, {})[0].read_text()
    assert "MosMedData+: not at hand, its rows are not run." in text
    assert "| SSA | no data |" in text
    assert block_of_costs({}) is None
    assert filled[0].lines[0].summary(OWN) is None
