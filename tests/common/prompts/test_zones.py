"""Zones: cells of a displayed mask."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from common.prompts import parse
from common.prompts.zones import (
    KINDS,
    TABLES,
    ZONES,
    composite_prior,
    count_of_mask,
    pixels_of_sides,
    sides_of_mask,
    zone_of_point,
    zones_of_mask,
)


def block(rows, columns, size=224):
    mask = np.zeros((size, size), bool)
    mask[slice(*rows), slice(*columns)] = True
    return mask


@pytest.mark.parametrize(
    ("rows", "columns", "name"),
    [
        ((40, 70), (60, 90), "L-up"),
        ((78, 98), (60, 90), "L-mid"),
        ((120, 150), (60, 90), "L-low"),
        ((40, 70), (140, 170), "R-up"),
        ((78, 98), (140, 170), "R-mid"),
        ((120, 150), (140, 170), "R-low"),
    ],
)
def test_a_block_is_in_one_zone_at_any_size(rows, columns, name):
    bits = tuple(int(name == other) for other in ZONES["chest"])
    mask = block(rows, columns)
    assert zones_of_mask(mask) == bits
    assert zones_of_mask(np.kron(mask, np.ones((3, 3)))) == bits
    row, column = np.mean(rows), np.mean(columns)
    assert ZONES["chest"][zone_of_point(row, column, mask.shape)] == name


def test_a_zone_counts_from_200_pixels_at_224():
    assert zones_of_mask(block((40, 60), (60, 70))) == (1, 0, 0, 0, 0, 0)
    assert zones_of_mask(block((40, 59), (60, 70))) == (0,) * 6
    assert zones_of_mask(block((20, 30), (30, 35), 112)) == (1, 0, 0, 0, 0, 0)
    assert zones_of_mask(block((20, 30), (30, 34), 112)) == (0,) * 6


def test_an_empty_mask_has_no_zone():
    for kind in TABLES:
        assert not any(zones_of_mask(np.zeros((50, 60)), kind))


def test_the_centre_of_each_zone_lies_in_it():
    for kind, table in TABLES.items():
        for i, (row, column) in enumerate(table.centres):
            inside = zone_of_point(row * 1000, column * 1000, (1000, 1000), kind)
            assert table.names[inside] == table.names[i]


def test_each_polyp_is_in_the_zone_of_its_middle():
    mask = block((10, 30), (10, 30)) | block((100, 130), (150, 180))
    names = [name for name, bit in zip(ZONES["polyp"], zones_of_mask(mask, "polyp"), strict=True) if bit]
    assert names == ["top left", "right"]


def test_wrong_input():
    with pytest.raises(UserError, match="kind of image 'mri' is unknown; use one of radiograph"):
        zones_of_mask(np.zeros((4, 4)), "mri")
    with pytest.raises(UserError, match=r"mask of shape \(1, 4, 4\): zones need one displayed plane"):
        zones_of_mask(np.zeros((1, 4, 4)))


def agreement(pairs, kind):
    """Shares of bits and of images on which masks and sentences agree."""
    same = np.array([np.equal(zones_of_mask(np.array(Image.open(path).convert("L")) > 127, kind), zones)
                     for path, zones in pairs])  # fmt: skip
    return same.mean(), same.all(axis=1).mean()


@pytest.mark.real
def test_radiographs_agree_with_their_sentences(qata_dir):
    rows = json.loads((qata_dir / "annotation_zones.json").read_text())[::10]
    folder = {path.name.lower(): path for path in (qata_dir / "Train Set" / "Ground-truths").iterdir()}
    bits, images = agreement([(folder[row["mask"].lower()], row["zones"]) for row in rows], "radiograph")
    assert bits > 0.89
    assert images > 0.61


@pytest.mark.real
@pytest.mark.parametrize(
    ("data", "kind", "grammar", "bits", "images"),
    [("kvasir_dir", "polyp", "polyp", 0.98, 0.9), ("ct_slices_dir", "axial_ct", "chest", 0.66, 0.27)],
)
def test_masks_agree_with_their_sentences(data, kind, grammar, bits, images, request):
    root = request.getfixturevalue(data)
    with (root / "captions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    pairs = [(root / "masks" / row["mask"], parse(row["text"], "image", grammar).zones) for row in rows]
    found = agreement(pairs, kind)
    assert found[0] >= bits
    assert found[1] >= images


def test_lesions_that_touch_at_a_corner_are_one():
    mask = np.zeros((30, 30), bool)
    mask[0:5, 0:5] = mask[5:10, 5:10] = True
    assert count_of_mask(mask) == 1
    mask[9, 9] = False
    mask[20:25, 20:25] = True
    assert count_of_mask(mask) == 2
    assert count_of_mask(np.zeros((30, 30), bool)) == 0


@pytest.mark.parametrize(("size", "pixels"), [(224, 20), (112, 5), (448, 80)])
def test_specks_are_no_lesion(size, pixels):
    mask = np.zeros((size, size), np.uint8)
    mask[10, size - pixels :] = 1
    mask[10, : pixels - 1] = 1
    assert sides_of_mask(mask) == {"right"}
    assert count_of_mask(mask) == 1
    assert pixels_of_sides(mask) == {"left": pixels - 1, "right": pixels}


def test_only_chests_have_sides():
    assert {kind: TABLES[kind].grammar for kind in KINDS.values()} == {"radiograph": "chest", "polyp": "polyp"}
    with pytest.raises(UserError, match="kind of image 'polyp' has no left and right side; use that of a chest"):
        pixels_of_sides(np.ones((8, 8)), "polyp")
    with pytest.raises(UserError, match=r"mask of shape \(1, 4, 4\): zones need one displayed plane"):
        count_of_mask(np.zeros((1, 4, 4)))


@pytest.mark.parametrize(("kind", "bits"), [("radiograph", (1, 0, 0, 0, 1, 0)), ("polyp", (0, 1, 0, 0, 0, 0, 0, 0, 1))])
def test_prior_equals_the_formula(kind, bits):
    prior, zones = composite_prior(bits, (14, 20), kind), TABLES[kind]
    for row, column in np.ndindex(14, 20):
        values = []
        for bit, (centre_row, centre_column) in zip(bits, zones.centres, strict=True):
            if bit:
                down = ((row + 0.5) / 14 - centre_row) / zones.sigmas[0]
                across = ((column + 0.5) / 20 - centre_column) / zones.sigmas[1]
                values.append(np.exp(-0.5 * down**2 - 0.5 * across**2))
        assert prior[row, column] == pytest.approx(max(values), rel=1e-5, abs=1e-9)
    with pytest.raises(ValueError, match="read-only"):
        prior[0, 0] = 1


def test_prior_of_no_zone_is_one_and_of_wrong_bits_refused():
    assert (composite_prior((0,) * 6, (8, 8)) == 1).all()
    with pytest.raises(UserError, match="9 zone bits, but kind of image 'radiograph' has 6 zones"):
        composite_prior((1,) * 9, (8, 8))
