import csv
import hashlib
from collections import defaultdict

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import label

from common.datasets import anatomy, load_dataset, phantoms
from common.datasets.check import check
from common.errors import UserError
from common.images import display_array, read_image, to_display
from common.prompts import parse
from common.prompts.zones import zones_of_mask

SIZE, MANY = 112, 240
EIGHT = np.ones((3, 3))


@pytest.fixture(scope="module")
def series():
    """Many phantoms without their pictures, which take longest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anatomy, "draw", lambda who, size, opacity: np.zeros((size, size), np.uint8))
        return [phantoms.draw(index, SIZE) for index in range(MANY)]


def dice(pred, truth):
    return 2 * (pred & truth).sum() / (pred.sum() + truth.sum())


def opacities(phantom):
    """Each opacity, named or not, with its zone bits."""
    parts, number = label(phantom.mask | phantom.others, EIGHT)
    return [(parts == k, zones_of_mask(parts == k)) for k in range(1, number + 1)]


def read(phantom, zones):
    """What a perfect reader of picture and sentence marks: the opacities that lie in zones named."""
    answer = np.zeros_like(phantom.mask)
    for mask, bits in opacities(phantom):
        if any(a and b for a, b in zip(bits, zones, strict=True)):
            answer |= mask
    return answer


def test_sentence_is_true_of_the_mask(series):
    for phantom in series:
        assert zones_of_mask(phantom.mask) == phantom.findings.zones
        assert label(phantom.mask, EIGHT)[1] == phantom.findings.count
        assert parse(phantom.findings.caption(), "image") == phantom.findings


@pytest.mark.parametrize("size", [64, 128, 224])
def test_sentence_is_true_at_other_sizes(size):
    for index in range(12):
        phantom = phantoms.draw(index, size)
        assert phantom.image.shape == (size, size)
        assert zones_of_mask(phantom.mask) == phantom.findings.zones
        assert label(phantom.mask, EIGHT)[1] == phantom.findings.count


def test_half_hold_an_opacity_clear_of_what_is_named(series):
    assert [phantom.others.any() for phantom in series] == [index % 2 == 1 for index in range(MANY)]
    for phantom in series[1::2]:
        assert zones_of_mask(phantom.others) == phantom.unnamed
        assert not any(a and b for a, b in zip(phantom.unnamed, phantom.findings.zones, strict=True))
        assert (
            label(phantom.mask | phantom.others, EIGHT)[1] == phantom.findings.count + label(phantom.others, EIGHT)[1]
        )


def test_size_and_zone_do_not_tell_what_is_named(series):
    named, others, zones = [], [], np.zeros((2, 6))
    for phantom in series[1::2]:
        for mask, bits in opacities(phantom):
            is_named = (mask & phantom.mask).any()
            (named if is_named else others).append(mask.sum())
            zones[int(is_named)] += bits
    assert np.mean(others) == pytest.approx(np.mean(named), rel=0.15)
    shares = zones / zones.sum(axis=1, keepdims=True)
    assert np.abs(shares[0] - shares[1]).max() < 0.12


def test_neither_the_picture_nor_the_sentence_suffices(series):
    """Ceilings of micro Dice; the reader of both has 1."""
    truth = np.array([phantom.mask for phantom in series])
    both = np.array([read(phantom, phantom.findings.zones) for phantom in series])
    assert (both == truth).all()

    picture = np.array([phantom.mask | phantom.others for phantom in series])
    assert dice(picture, truth) < 0.82

    groups = defaultdict(list)
    for index, phantom in enumerate(series):
        groups[phantom.findings.zones, phantom.findings.count].append(index)
    mean = np.zeros(truth.shape)
    for rows in groups.values():
        mean[rows] = truth[rows].mean(axis=0)
    # fitted to the very phantoms that it is scored on, at its best threshold
    assert max(dice(mean > level, truth) for level in np.linspace(0.1, 0.6, 11)) < 0.75


def test_a_mirrored_sentence_misleads_a_good_reader(series):
    crowded = [p for p in series if p.others.any()]
    truth = np.array([p.mask for p in crowded])
    mirrored = np.array([read(p, p.findings.mirrored().zones) for p in crowded])
    assert dice(mirrored, truth) < 0.2
    assert np.mean([m.any() for m in mirrored]) > 0.4  # often there is something to be misled by


def test_both_sides_and_all_zones_are_drawn(series):
    assert (np.mean([p.findings.zones for p in series], axis=0) > 0.1).all()
    assert len({p.findings.zones for p in series}) > 20


def test_the_heart_is_on_the_right_of_the_picture_and_lungs_are_dark():
    for index in range(6):
        who = anatomy.patient(np.random.default_rng(index))
        image = anatomy.draw(who, 128, np.zeros((128, 128))).astype(float)
        low = image[62:80]  # just above the diaphragm
        centre = int(128 * who.centre)
        assert low[:, centre + 10 : centre + 25].mean() > low[:, centre - 25 : centre - 10].mean() + 15
        lung = anatomy.clear_lung(who, 128)
        assert image[lung].mean() + 60 < image[:, centre - 6 : centre + 6].mean()


def test_opacities_are_brighter_than_the_lung_around():
    higher = []
    for index in range(0, 24, 2):
        phantom = phantoms.draw(index, 128)
        who = anatomy.patient(np.random.default_rng([0, index]))
        lung = anatomy.clear_lung(who, 128) & ~phantom.mask
        higher.append(phantom.image[phantom.mask].mean() - phantom.image[lung].mean())
    assert min(higher) > 5
    assert np.mean(higher) > 30


def _digest(root):
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(str(p.relative_to(root)).encode() + p.read_bytes() for p in files)).hexdigest()


def test_bytes_follow_from_the_seed(tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        phantoms.write(tmp_path / name, count=20, size=64, seed=seed, inbox=6)
    assert _digest(tmp_path / "a") == _digest(tmp_path / "b") != _digest(tmp_path / "c")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantoms")
    phantoms.write(root, count=40, size=64, inbox=6)
    return root


def test_written_data_set_passes_its_own_check(written):
    report = check("auto", written)
    assert report.usable
    assert report.notes == []
    assert report.shared == []
    for part in report.splits.values():
        assert part.pairs == part.sides == part.zones == part.counts
    assert [report.splits[s].pairs for s in ("train", "validation", "test")] == [30, 4, 6]


def test_written_table(written):
    with (written / "captions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["laterality"] for row in rows} == {"image", "patient"}
    for split in ("train", "validation", "test"):
        unnamed = [bool(row["unnamed"]) for row in rows if row["split"] == split]
        assert np.mean(unnamed) == 0.5
    item = load_dataset("auto", written, "train")[1]
    assert np.array_equal(np.asarray(Image.open(item["image"])), phantoms.draw(1, 64).image)


def test_inbox_shows_the_phantoms_upright(written):
    with (written / "inbox" / "prompts.csv").open() as file:
        rows = list(csv.DictReader(file))
    seen = set()
    for index, row in enumerate(rows):
        path = written / "inbox" / "images" / row["image"]
        phantom = phantoms.draw(40 + index, 64)
        assert np.abs(display_array(path) - phantom.image / 255).max() < 1e-3
        mask = np.asarray(Image.open(written / "inbox" / "masks" / f"{path.stem}.png")) > 0
        # a mask lies in the stored grid of its image
        assert np.array_equal(to_display(mask.T, read_image(path)[1]["display"]), phantom.mask)
        assert parse(row["text"], row["laterality"]).zones == phantom.findings.zones
        meta = read_image(path)[1]
        seen.add((meta["format"], meta["photometric"], meta["orientation"]))
    assert len(seen) == 6
    assert sum(kind == "dicom" for kind, _, _ in seen) == 5


def test_too_small(tmp_path):
    with pytest.raises(UserError, match="size: 32 pixels are too few to draw a chest; use 64 or more"):
        phantoms.write(tmp_path, size=32)
    with pytest.raises(UserError, match="count: 5 phantoms leave a split empty; use 20 or more"):
        phantoms.write(tmp_path, count=5)
