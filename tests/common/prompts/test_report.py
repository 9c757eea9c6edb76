"""Clinicians' sentences: places, denial, past, hypothesis, refusals. Bits are in the sentence's own sides."""

import pytest

from common.prompts import parse


def bits(text):
    return tuple(int(bit) for bit in text.replace(" ", ""))


PLACES = [
    ("RLL consolidation", "000 001"),
    ("RUL mass, LLL consolidation", "001 100"),
    ("LUL nodule and RML atelectasis", "100 010"),
    ("opacity in the lingula", "011 000"),
    ("Bibasilar atelectasis", "001 001"),
    ("Retrocardiac opacity", "001 000"),
    ("right perihilar opacity", "000 010"),
    ("Small left apical pneumothorax", "100 000"),
    ("opacity in both lungs", "111 111"),
    ("Right-sided pneumonia", "000 111"),
    ("small left pleural effusion", "001 000"),
    ("Bilateral pleural effusions, left greater than right", "001 001"),
    ("Left greater than right basilar opacities", "001 001"),
    ("Bilateral opacities, worse on the right", "111 111"),
    ("Opacities in the right upper, right middle, and left lower lobes", "001 110"),
    ("Right upper and left lower lobe opacities", "001 100"),
    ("Right middle and lower lobe consolidation", "000 011"),
    ("Consolidation of the left and right lower lobes", "001 001"),
    ("Bilateral lower lobe and right upper lobe opacities", "001 101"),
    ("Upper lobe predominant opacities bilaterally", "100 100"),
    ("Nodule in the superior segment of the left lower lobe", "001 000"),
    ("Opacity R base", "000 001"),
    ("lower left lung", "001 000"),
    ("Opacity in the lefft lower lobe", "001 000"),
    ("opacity which appears to be within the left lower lobe", "001 000"),
    ("Calcified granuloma in the right upper lobe", "000 100"),
    ("Possible left lower lobe pneumonia", "001 000"),
    ("Right lower lobe opacity may represent pneumonia", "000 001"),
]
DENIED = [
    "no left effusion",
    "Right lung is clear.",
    "Left lower lobe is normal",
    "No evidence of left pneumonia or right effusion",
    "Neither left nor right effusion",
    "Negative for right upper lobe pneumonia",
    "Lungs free of left sided consolidation",
    "The left lung shows no consolidation",
    "Left upper lobe opacity has resolved",
    "Left lower lobe pneumonia, resolved",
    "Left pleural effusion is no longer seen",
    "left sided effusion absent",
    "No infiltrates are present in the left lower lobe or in the right lung",
    "Resolution of right effusion and infiltrate",
    "History of left lower lobe pneumonia",
    "Status post left upper lobe resection",
    "Prior left lower lobe pneumonia has resolved",
    "The previously visualized nodule in the right upper lobe is not well-seen",
    "Evaluate for left pneumonia",
    "Rule out right lower lobe pneumonia",
    "Left effusion cannot be excluded",
    "If left opacity persists, repeat",
    "Left PICC with its tip in the right atrium",
    "Healed left rib fractures",
    "Cardiomegaly, elevated right hemidiaphragm",
    "Left hilar calcifications",
    "The heart is normal",
]
MIXED = [
    ("No pneumothorax. Left lower lobe consolidation.", "001 000"),
    ("No effusion but left lower lobe consolidation", "001 000"),
    ("Left lung clear, right lung opacity", "000 111"),
    ("right lung base opacity and left lung is clear", "000 001"),
    ("Opacity in left upper lobe; right lung clear", "100 000"),
    ("Without left effusion, there is right effusion", "000 001"),
    ("Left lower lobe opacity, not seen on the right", "001 000"),
    ("Consolidation in the right lung, not the left", "000 111"),
    ("The lungs are clear except for left lower lobe atelectasis", "001 000"),
    ("Left basal consolidation with no right effusion", "001 000"),
    ("Compared to prior, left effusion has increased", "001 000"),
    ("Previously seen left nodule is stable", "111 000"),
    ("No interval change in left base opacity", "001 000"),
    ("Heart size normal, left basilar opacity", "001 000"),
    ("Left mastectomy. Right lung nodule.", "000 111"),
    ("Mediastinal shift to the left with right pneumothorax", "000 111"),
    ("Suprahilar opacity on the right, compatible with history of left upper lobe mass", "000 100"),
]
REFUSED = [
    ("Pneumonia.", "pneumonia"),
    ("basilar opacity", "(which side?)"),
    ("No effusion and left lower lobe consolidation", "(denied or not?)"),
    ("The right lung is not clear", "(what is there?)"),
    ("The left and right XXXX remain enlarged", "(what is there?)"),
    ("Near-complete resolution of right effusion", "(there or not?)"),
    ("Density over the left base is a nipple shadow", "(there or not?)"),
    ("Nodular opacity over the right 9th rib", "(which place in a lung?)"),
    ("Opacity in the contralateral lung", "contralateral"),
    ("Light lower lobe opacity", "light"),
    ("flurb in the left lower lobe", "flurb"),
]


@pytest.mark.parametrize(("sentence", "zones"), PLACES + MIXED)
def test_places(sentence, zones):
    found = parse(sentence, "image")
    assert found.unreadable == ()
    assert found.zones == bits(zones)


@pytest.mark.parametrize(("sentence", "zones"), PLACES + MIXED)
def test_the_patients_sides_are_swapped(sentence, zones):
    assert parse(sentence, "patient").zones == bits(zones)[3:] + bits(zones)[:3]


@pytest.mark.parametrize("sentence", DENIED)
def test_what_is_denied_past_or_asked_for_names_no_zone(sentence):
    found = parse(sentence, "image")
    assert found.unreadable == ()
    assert not any(found.zones)


@pytest.mark.parametrize(("sentence", "word"), REFUSED)
def test_refused_with_the_words(sentence, word):
    found = parse(sentence, "image")
    assert word in found.unreadable
    assert not any(found.zones)


@pytest.mark.parametrize(("sentence", "zones"), [case for case in PLACES if "ossible" not in case[0]])
def test_a_denial_before_any_of_them_names_no_zone(sentence, zones):
    assert not any(parse(f"No {sentence}", "image").zones)
    assert not any(parse(f"History of {sentence}", "image").zones)


def test_a_hedge_is_a_warning():
    assert parse("Possible left lower lobe pneumonia", "image").warnings == ("said with reserve: 'possible'",)


def test_a_repair_is_a_warning():
    assert parse("Opacity in the rigth lung", "image").warnings == ("'rigth' is read as 'right'",)
