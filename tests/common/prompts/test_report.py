"""Clinicians' sentences: places, denial, past, hypothesis, refusals. Bits are in the sentence's own sides."""

import pytest

from common.errors import UserError
from common.prompts import parse, prepare


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

# sentences that name another side or place than that of the lesion, or deny its going
UNSAFE_ONCE = [
    ("Heart displaced to the right by left effusion.", "001 000"),
    ("The heart is displaced toward the right by a large left pleural effusion.", "001 000"),
    ("Heart shifted to the right from left effusion", "001 000"),
    ("Trachea is shifted to the right by left upper lobe mass.", "100 000"),
    ("Tracheal deviation to the right from left upper lobe mass", "100 000"),
    ("Trachea deviated to the right by a left upper lobe mass", "100 000"),
    ("Mediastinum is pushed rightward by a left effusion", "001 000"),
    ("Left effusion shifts the mediastinum to the right", "001 000"),
    ("Mediastinal structures are shifted into the right hemithorax by left effusion", "001 000"),
    ("Left pneumothorax with rightward mediastinal shift", "111 000"),
    ("The patient is rotated to the left with right lower lobe opacity", "000 001"),
    ("Left lower lobe opacity ruled out.", "000 000"),
    ("Left pneumothorax has been ruled out", "000 000"),
    ("Left pneumothorax is excluded", "000 000"),
    ("Left lower lobe opacity was ruled out by CT", "000 000"),
    ("CT ruled out left lower lobe opacity", "000 000"),
    ("Left lower lobe opacity is ruled out but right opacity remains", "000 111"),
    ("Right effusion. Left pneumothorax ruled out", "000 001"),
    ("Left pneumonia has not been ruled out", "000 000"),
    ("Left lower lobe opacity was never seen", "000 000"),
    ("Consolidation in the right lower lobe has not resolved.", "000 001"),
    ("Consolidation in the right lower lobe has not cleared", "000 001"),
    ("Consolidation in the right lower lobe has not yet resolved", "000 001"),
    ("Consolidation in the right lower lobe never resolved", "000 001"),
    ("Consolidation in the right lower lobe without resolution", "000 001"),
    ("No resolution of right lower lobe consolidation", "000 001"),
    ("No interval resolution of the right lower lobe consolidation", "000 001"),
    ("Lack of resolution of right lower lobe consolidation", "000 001"),
    ("Right lower lobe consolidation has not completely resolved", "000 001"),
    ("Non-resolving right lower lobe pneumonia", "000 001"),
    ("No increase in left effusion", "001 000"),
    ("Left lower lobe opacity has not worsened", "001 000"),
    ("Left base opacity, not seen on prior exam", "001 000"),
    ("Left base opacity not previously seen", "001 000"),
    ("Left base opacity previously not seen", "001 000"),
    ("Left effusion is more apparent than on prior", "001 000"),
    ("Left base opacity, unchanged from examination 7 years ago", "001 000"),
    ("Left lateral decubitus view shows right effusion", "000 001"),
    ("Left lower lobe atelectasis vs. pneumonia", "001 000"),
    ("No opacity other than left base nodule", "001 000"),
    ("Consolidation left and right lower lobes", "001 001"),
]
DOUBTFUL = [
    # exceptions to what is asserted
    ("Both lungs show consolidation except the left upper lobe.", "upper"),
    ("Opacities in all lobes except left upper", "upper"),
    ("bilateral opacities other than left apex", "apex"),
    ("All lobes but the left upper are consolidated", "all lobes but the left"),
    ("Bilateral opacities, sparing the left base", "sparing"),
    ("Bilateral opacities but not the left base", "base"),
    ("Bilateral opacities, none at the left base", "base"),
    ("Bilateral opacities without involvement of the left apex", "apex"),
    ("Opacification of the left lung but not its apex", "(there or not?)"),
    ("Bilateral opacities. The left lung is clear", "(there or not?)"),
    ("Bilateral opacities, only on the right", "bilateral opacities, only on the right"),
    # the other side, or either
    ("Opacity in the right lung rather than the left lung", "than the left"),
    ("Right lung is more opacified than the left", "than the left"),
    ("Increased opacity of the right lung compared to the left lung", "compared to the left"),
    ("Right lower lobe opacity versus left lower lobe", "versus left"),
    ("Right opacity with effusion of the other side", "other side"),
    ("Right effusion on the opposite side", "opposite"),
    ("Left or right lower lobe opacity", "(there or not?)"),
    ("Opacity in the left base or right apex", "(there or not?)"),
    ("Right effusion extending to the left", "extending to the left"),
    ("Left effusion has shifted to the right", "effusion has shifted"),
    ("Right and not left lower lobe opacity", "(there or not?)"),
    ("Right, not left, opacity", "(denied or not?)"),
    ("Opacity reported as left is on the right", "reported as"),
    # denials of denials, of nothing, and answers
    ("Right lower lobe opacity is not absent", "not absent"),
    ("Not only left but also right lower lobe opacity", "not only"),
    ("Right effusion, not without left effusion", "(denied twice)"),
    ("Left: none; right: opacity", "(what is denied?)"),
    ("Right lower lobe opacity, left no", "(what is denied?)"),
    ("Left lower lobe is no longer clear", "no longer clear"),
    ("Left lower lobe opacity is not there", "there"),
    ("Left base opacity, seen on PA, not seen on the lateral view", "not seen on the lateral"),
    ("Consolidation absent in left lung, present in right lung", "(what is there?)"),
    ("Right effusion has mostly resolved", "(there or not?)"),
    ("Left effusion has cleared somewhat", "(there or not?)"),
    ("Left effusion, unlikely", "(there or not?)"),
    ("Unable to identify left effusion", "unable"),
    ("Findings argue against left pneumonia", "against"),
    ("Opacity left base (-)", "(-)"),
    # questions and reserve
    ("Left lung opacity? No", "(a question)"),
    ("Should left lower lobe opacity be considered?", "(a question)"),
    ("Any left lower lobe opacity", "any"),
    ("minimal left effusion, if any", "if any"),
    ("Left lower lobe opacity vs. nipple shadow", "(there or not?)"),
    ("Left lower lobe opacity vs. rib", "rib"),
    ("Raises concern for left lower lobe pneumonia", "concern for"),
    # not in the lung, not now
    ("Left lower lobe opacity is outside the lung", "outside"),
    ("Left lower lobe opacity is not in the lung", "not in the lung"),
    ("Left lower lobe opacity in the breast", "opacity in the breast"),
    ("non-left lung opacity", "non-left"),
    ("Opacity free left lung", "opacity free"),
    ("Left pneumonia 2 years ago", "ago"),
    # left and right as other words
    ("Right effusion left after drainage", "left after"),
    ("Opacity right at the left base", "right at"),
    ("The right lung opacity projects left of the spine", "left of the spine"),
    ("Patient left; right pneumonia", "patient left"),
]
OTHER_SIDES = [
    ("patient", "Opacity on the left side of the image", "left side of the image"),
    ("patient", "Opacity at the viewer's left", "viewer's left"),
    ("patient", "Opacity in the lower left of the picture", "left of the picture"),
    ("patient", "On the left side of the radiograph there is opacity", "left side of the radiograph"),
    ("image", "Opacity in patient's left lower lung", "patient's left"),
    ("image", "Opacity in the left lower lung of the patient", "left lower lung of the patient"),
    ("image", "His left lower lobe shows opacity", "his left"),
]


@pytest.mark.parametrize(("sentence", "zones"), PLACES + MIXED + UNSAFE_ONCE)
def test_places(sentence, zones):
    found = parse(sentence, "image")
    assert found.unreadable == ()
    assert found.zones == bits(zones)


@pytest.mark.parametrize(("sentence", "zones"), PLACES + MIXED + UNSAFE_ONCE)
def test_the_patients_sides_are_swapped(sentence, zones):
    assert parse(sentence, "patient").zones == bits(zones)[3:] + bits(zones)[:3]


@pytest.mark.parametrize("sentence", DENIED)
def test_what_is_denied_past_or_asked_for_names_no_zone(sentence):
    found = parse(sentence, "image")
    assert found.unreadable == ()
    assert not any(found.zones)


@pytest.mark.parametrize("laterality", ["image", "patient"])
@pytest.mark.parametrize(("sentence", "word"), REFUSED + DOUBTFUL)
def test_refused_with_the_words(sentence, word, laterality):
    found = parse(sentence, laterality)
    assert word in found.unreadable or (laterality == "patient" and found.unreadable)
    assert not any(found.zones)


@pytest.mark.parametrize(("laterality", "sentence", "words"), OTHER_SIDES)
def test_a_sentence_that_declares_other_sides_is_refused(laterality, sentence, words):
    assert parse(sentence, laterality).unreadable[0] == words
    with pytest.raises(UserError, match=f"{words}.* laterality"):
        prepare(sentence, laterality, "chest", "original")
    other = "image" if laterality == "patient" else "patient"
    found = parse(sentence, other)
    assert found.sides == ({"left"} if other == "image" else {"right"})
    assert prepare(sentence, other, "chest", "canonical") == found.caption()


def test_a_doubtful_phrase_without_place_and_lesion_is_no_hindrance():
    assert parse("Concern for pneumonia.", "image").understood
    assert parse("Costophrenic angles are excluded. Small right effusion.", "image").zones == bits("000 001")
    assert parse("Left base opacity, either atelectasis or infiltrate.", "image").zones == bits("001 000")


@pytest.mark.parametrize(("sentence", "zones"), [case for case in PLACES if "ossible" not in case[0]])
def test_a_denial_before_any_of_them_names_no_zone(sentence, zones):
    assert not any(parse(f"No {sentence}", "image").zones)
    assert not any(parse(f"History of {sentence}", "image").zones)


def test_a_hedge_is_a_warning():
    assert parse("Possible left lower lobe pneumonia", "image").warnings == ("said with reserve: 'possible'",)


def test_a_repair_is_a_warning():
    assert parse("Opacity in the rigth lung", "image").warnings == ("'rigth' is read as 'right'",)
