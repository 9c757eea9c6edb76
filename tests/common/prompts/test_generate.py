"""Generated sentences: seeded, and what they say is what the parser reads."""

from collections import Counter
from random import Random

from common.prompts import parse
from common.prompts.generate import examples
from common.prompts.noise import disturb


def test_seeded():
    assert examples(3, 50) == examples(3, 50)
    assert examples(3, 50) != examples(4, 50)


def test_the_parser_reads_the_same():
    made = examples(0, 3000, typos=False)
    readings = [(sentence, said, parse(sentence, "image", said.grammar)) for sentence, said in made]
    understood = [reading for reading in readings if reading[2].understood]
    assert len(understood) > 0.97 * len(made)
    # without "... pulmonary infection" a sentence is read as a clinician's, without a count
    differing = [r for r in understood if r[1].zones != r[2].zones or r[2].count not in (None, r[1].count)]
    assert len(differing) < 0.002 * len(made), differing


def test_misspelt_sentences_that_are_understood_say_the_same():
    made = examples(1, 1500, typos=False)
    for held_out in (False, True):
        rng = Random(2)
        readings = [(parse(disturb(s, rng, 1, held_out), "image", f.grammar), f) for s, f in made]
        understood = [(reading, said) for reading, said in readings if reading.understood]
        assert len(understood) > 0.6 * len(readings)
        differing = [pair for pair in understood if pair[0].zones != pair[1].zones]
        assert len(differing) < 0.01 * len(understood), differing


def test_every_zone_position_and_kind_is_there():
    made = examples(2, 4000)
    grammars = Counter(said.grammar for _, said in made)
    assert min(grammars.values()) > 500
    for grammar, bits in (("chest", 6), ("polyp", 9)):
        codes = [said.zones for _, said in made if said.grammar == grammar]
        shares = [sum(code[i] for code in codes) / len(codes) for i in range(bits)]
        assert min(shares) > 0.15, (grammar, shares)
    # left and right alike
    left, right = (sum(side in said.sides for _, said in made) for side in ("left", "right"))
    assert 0.9 < left / right < 1.1
    assert {said.count for _, said in made} >= {None, 0, 1, 2, 3, 4, 5, 6}
