import dataclasses
from collections import Counter

import pytest

from common.benchmark.published import DATASETS, DEFINITIONS, definition, gap, rows
from common.bundle import BUNDLES
from common.errors import UserError
from common.transforms import degradation


def test_every_table_is_there():
    assert Counter((row.paper, row.table, row.dataset) for row in rows()) == {
        ("BiCLIP", "T1", "qata"): 17, ("BiCLIP", "T1", "mosmed"): 17, ("BiCLIP", "T2", "qata"): 8,
        ("BiCLIP", "T2", "mosmed"): 8, ("BiCLIP", "T3", "qata"): 24, ("BiCLIP", "T3", "mosmed"): 24,
        ("C2Seg", "T1", "qata"): 20, ("C2Seg", "T1", "mosmed"): 20, ("C2Seg", "T2", "clinicdb"): 16,
        ("C2Seg", "T2", "kvasir"): 16, ("C2Seg", "T3", "mosmed"): 8, ("C2Seg", "T3", "clinicdb"): 8,
        ("C2Seg", "T4", "mosmed"): 10, ("Semi-MedRef", "T1", "qata"): 30, ("Semi-MedRef", "T1", "mosmed"): 30,
        ("Semi-MedRef", "T2", "qata"): 10, ("Semi-MedRef", "T3", "qata"): 8, ("SSA", "T1", "qata"): 10,
        ("SSA", "T1", "mosmed"): 10, ("SSA", "T2", "qata"): 4, ("SSA", "T3", "qata"): 3,
        ("CausalCLIPSeg", "T1", "qata"): 14, ("CausalCLIPSeg", "T2", "qata"): 4,
        ("third party", "conversion", "qata"): 6,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("dice", "iou", "points", "name"),
    [
        (90.59, 82.81, 0.01, "micro"),  # BiCLIP, Table 1
        (85.25, 76.97, 2.68, "per_image"),  # C2Seg, Table 1
        (84.09, 72.64, 0.09, "near_micro"),  # ARSeg
        (81.52, 68.63, -0.17, "near_micro"),  # LViT in C2Seg's Table 1
        (80.48, 67.01, -0.33, "neither"),  # LAVT there
        (71.16, 55.18, -0.05, "near_micro"),  # Semi-MedRef at 2 % of MosMedData+: -0.0513
        (73.10, 57.95, 0.35, "per_image"),  # GuideDecoder at 15 % of MosMedData+: a misprint?
    ],
)
def test_the_definition_is_derived(dice, iou, points, name):
    assert round(gap(dice, iou), 2) == points
    assert definition(dice, iou) == name


def test_no_iou_no_definition():
    assert definition(84.58, None) == "unknown"


def test_classes_of_all_rows():
    found = Counter(row.definition for row in rows())
    assert found == {"micro": 110, "per_image": 194, "near_micro": 8, "neither": 5, "unknown": 8}
    assert found.keys() <= DEFINITIONS.keys()


def test_lineages():
    # the code lineage of GuideDecoder and MMI-UNet sums over all images, LViT's and CLIP's do not
    for bundle in ("biclip", "biclip+ef_unet", "ssa"):
        assert {row.definition for row in rows(bundle=bundle)} == {"micro"}
    for row in rows(paper="CausalCLIPSeg"):
        assert row.definition == "per_image", row
    own = [row.definition for row in rows(bundle="c2seg")]
    assert Counter(own) == {"per_image": 29, "near_micro": 1}


def test_values_are_sane():
    for row in rows():
        assert row.dataset in DATASETS
        assert 0 < row.dice < 100
        assert row.iou is None or row.iou < row.dice
        assert row.method == row.method.strip() != ""
        assert row.source
    key = [dataclasses.astuple(row)[:5] for row in rows()]
    assert len(set(key)) == len(key), "one row a paper, table, data set, condition and method"


def test_bundles_and_conditions_exist():
    for row in rows():
        if row.bundle:
            name, *overlays = row.bundle.split("+")
            for overlay in ("train", *overlays):
                assert (BUNDLES / name / "configs" / f"{overlay}.json").is_file(), row.bundle
        for word in row.condition.split():
            key, _, value = word.partition("=")
            assert key in ("fraction", "degrade", "ablation", "stated")
            if key == "degrade":
                degradation("image", value)


def test_selection():
    (row,) = rows(paper="BiCLIP", table="T1", dataset="qata", bundle="biclip")
    assert (row.method, row.dice, row.iou, row.condition, row.source) == (
        "BiCLIP",
        90.59,
        82.81,
        "",
        "arXiv 2603.00156",
    )
    (low,) = rows(dataset="mosmed", condition="degrade=noise140", bundle="biclip+ef_unet")
    assert (low.method, low.dice) == ("EF-UNet", 79.42)
    assert [r.dice for r in rows(dataset="qata", condition="fraction=0.02", bundle="mmi_unet")] == [84.63]
    assert rows(condition="fraction=0.5", bundle="unet") == []
    with pytest.raises(UserError, match="table 'T9': no published row has it; use one of T1, T2, T3, T4, conversion"):
        rows(table="T9")


def test_boundary_distances_are_of_c2seg_alone():
    found = {row.dataset: (row.hd95, row.assd) for row in rows() if row.hd95 is not None}
    assert found == {"qata": (12.71, 3.38), "mosmed": (15.02, 3.76), "clinicdb": (6.53, 2.23), "kvasir": (13.62, 3.98)}
    assert {row.method for row in rows() if row.assd is not None} == {"C2Seg"}


def test_one_model_under_both_definitions():
    pairs = {}
    for row in rows(table="conversion"):
        pairs.setdefault(row.method, {})[row.definition] = row.dice
    assert pairs["MMI-UNet"] == {"micro": 90.88, "per_image": 83.97}
    assert pairs["LViT"] == {"micro": 90.63, "per_image": 83.40}
