"""The sentences of the real data sets and of real reports.

QaTa-COV19: the rows of the sheet whose six bits differ from SGSeg's cleaned ones fall into four kinds.

- ``lowerl``: the cleaned bits read the misspelt "lowerl" as nothing and put its side's zones elsewhere; it is lower.
- ``no zones``: the sentence names the lungs without zones ("left lung and right lung"); the cleaned bits come from
  elsewhere. Here they are the whole lungs.
- ``two sides``: one phrase names both sides; refused.
- ``stray``: letters that could be "all", or a side; refused.
"""

import csv
import json
import re
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import pytest

from common.prompts import parse
from common.prompts.parse import _parse
from common.prompts.zones import POLYP

pytestmark = pytest.mark.real
EXPLAINED = {
    "mask_covid_2433.png": "lowerl",
    "mask_covid_2526.png": "lowerl",
    "mask_covid_387.png": "lowerl",
    "mask_covid_3889.png": "lowerl",
    "mask_sub-s10087_ses-e23426_run-1_bp-chest_vp-ap_dx.png": "lowerl",
    "mask_sub-s10118_ses-e20010_run-1_bp-chest_vp-ap_dx.png": "lowerl",
    "mask_sub-s10279_ses-e17793_run-1_bp-chest_vp-pa_dx.png": "no zones",
    "mask_sub-s10961_ses-e19165_run-1_bp-chest_vp-ap_cr.png": "no zones",
    "mask_sub-s11018_ses-e25636_run-1_bp-chest_vp-pa_cr.png": "no zones",
    "mask_sub-s11022_ses-e19762_run-1_bp-chest_vp-pa_cr.png": "no zones",
    "mask_covid_2745.png": "two sides",
    "mask_covid_4392.png": "two sides",
    "mask_covid_4064.png": "stray",
    "mask_sub-s10900_ses-e18970_run-1_bp-chest_vp-ap_cr.png": "stray",
    "mask_sub-s11613_ses-e22574_run-1_bp-chest_vp-ap_dx.png": "stray",
}


def sheet(path):
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def qata(qata_dir):
    """(lower-case mask name, sentence, cleaned bits) of each row."""
    cleaned = json.loads((qata_dir / "annotation_zones.json").read_text())
    zones = {row["mask"].lower(): tuple(row["zones"]) for row in cleaned}
    rows = sheet(qata_dir / "train.csv")
    return [(row["Image"].lower(), row["Description"], zones[row["Image"].lower()]) for row in rows]


def test_qata_zones_agree_with_the_cleaned_ones(qata):
    different = {name for name, text, zones in qata if parse(text, "image").zones != zones}
    assert len(qata) == 7145
    assert 1 - len(different) / len(qata) >= 0.996
    assert different == set(EXPLAINED)


def test_qata_sentences_are_understood_or_refused_with_words(qata):
    refused = {name: parse(text, "image") for name, text, _ in qata if not parse(text, "image").understood}
    assert set(refused) == {name for name, kind in EXPLAINED.items() if kind in ("two sides", "stray")}
    assert {word for found in refused.values() for word in found.unreadable} == {"left", "right", "l", "ll"}


def test_qata_contradictions_carry_warnings(qata):
    found = Counter()
    for _, text, _ in qata:
        for line in parse(text, "image").warnings:
            found[re.sub(r"left|right", "X", line)] += 1
        sides = {side for side in ("left", "right") if re.search(side, text.lower())}
        if text.lower().startswith("uni") and len(sides) == 2:
            assert "says unilateral but names both sides" in parse(text, "image").warnings
        if text.lower().startswith("bi") and len(sides) == 1:
            assert f"says bilateral but names the {sides.pop()} side only" in parse(text, "image").warnings
    assert found["says unilateral but names both sides"] == 6
    assert found["says bilateral but names the X side only"] == 13
    assert found["states several counts: 2, 1"] == 5
    assert found["counts 1 area but names 2 sides"] == 4


def test_qata_is_parsed_fast(qata):
    _parse.cache_clear()
    start = time.perf_counter()
    for _, text, _ in qata:
        parse(text, "image")
    assert time.perf_counter() - start < 2


def test_ct_sentences(ct_slices_dir):
    rows = sheet(ct_slices_dir / "captions.csv")
    assert len(rows) == 88
    for row in rows:
        found = parse(row["text"], "image")
        expected = []
        for side in ("left", "right"):
            level = re.search(rf"(all|upper|middle|lower) {side} lung", row["text"])
            named = level.group(1) if level else ""
            expected += [int(named in (zone, "all")) for zone in ("upper", "middle", "lower")]
        assert found.unreadable == ()
        assert found.zones == tuple(expected)
        assert bool(found.warnings) == bool(re.search(r", left lung| and right lung", row["text"]))


def test_kvasir_positions(kvasir_dir):
    rows = sheet(kvasir_dir / "captions.csv")
    right = 0
    for row in rows:
        places = re.search(r"located in (.*) of the image", row["text"]).group(1).split(", ")
        found = parse(row["text"], "image", "polyp")
        right += found.zones == tuple(int(name in places) for name in POLYP) and found.count == len(places)
    assert len(rows) == 900
    assert right == 900


@pytest.fixture(scope="module")
def indiana(indiana_dir):
    """(set, sentence, bits in the patient's sides) of the sentences that were labelled by reading them."""
    labels = sheet(Path(__file__).parent / "indiana.csv")
    cases = []
    for row in labels:
        report = ElementTree.parse(indiana_dir / f"{row['report']}.xml")
        text = next(part.text for part in report.iter("AbstractText") if part.get("Label")[:3] == row["section"])
        sentence = re.split(r"(?<=[.?!])\s+", text.strip())[int(row["sentence"])]
        cases.append((row["set"], sentence, tuple(int(bit) for bit in row["zones"])))
    return cases


def test_indiana_no_wrong_side_and_no_zone_from_a_denied_clause(indiana):
    assert len(indiana) == 280
    refused, exact = Counter(), Counter()
    for which, sentence, patient in indiana:
        found = parse(sentence, "patient")
        if not found.understood:
            refused[which] += 1
            continue
        image = patient[3:] + patient[:3]
        for side in (slice(0, 3), slice(3, 6)):
            assert any(found.zones[side]) == any(image[side]), f"{which}: wrong side"
        exact[which] += found.zones == image
    assert refused["first"] <= 20  # of 200
    assert refused["second"] <= 4  # of 80
    assert exact["first"] == 200 - refused["first"]
    assert exact["second"] >= 75
