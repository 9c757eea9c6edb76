from dataclasses import replace

from common.benchmark.cells import CONDITIONS, OWN, Cell, from_json, merged

CELL = Cell("ssa", ("demo",), "qata", 1, 0.02, {"loss::weight": 0}, {"split": "validation"}, (OWN, "mirrored"))


def test_a_cell_survives_json():
    assert from_json(CELL.as_json()) == CELL


def test_the_name_tells_the_training_and_nothing_else():
    assert CELL.name.startswith("ssa-qata-0.02-s1-")
    for change in ({"seed": 2}, {"fraction": 0.05}, {"override": {"loss::weight": 1}}, {"overlays": ()},
                   {"stage_one": {}}, {"bundle": "unet"}, {"dataset": "mosmed"}):  # fmt: skip
        assert replace(CELL, **change).name != CELL.name, change
    for change in ({"evaluations": (OWN,)}, {"value": 7}, {"score": {"split": "test"}}):
        assert replace(CELL, **change).name == CELL.name, change
    assert replace(CELL, override={"b": 1, "a": 2}).name == replace(CELL, override={"a": 2, "b": 1}).name


def test_one_training_serves_all_that_ask_for_it():
    other = replace(CELL, evaluations=(OWN, "blur3"), value=5)
    third = replace(CELL, seed=0, value=3)
    found = merged([CELL, third, other])
    assert [cell.seed for cell in found] == [1, 0]  # the most valuable first
    assert found[0].evaluations == (OWN, "mirrored", "blur3")
    assert set(found[0].evaluations) <= set(CONDITIONS)


def test_overlays_of_training_are_not_asked_for_where_weights_are_used():
    assert replace(CELL, overlays=("gpu", "demo", "cutmix")).of_network == ("demo",)
