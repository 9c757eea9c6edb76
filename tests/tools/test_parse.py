"""``python -m tools parse``."""

import pytest

from tools.__main__ import main


def test_both_sides_are_spelled_out(capsys):
    assert main(["parse", "Small effusion in the right lung base.", "--laterality", "patient"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "places:    picture left: lower",
        "           patient right: lower",
        "count:     not stated",
        "understood (patient's sides): Unilateral pulmonary infection, lower right lung.",
        "for the network (sides of the picture): Unilateral pulmonary infection, lower left lung.",
    ]


def test_the_pictures_sides_by_choice(capsys):
    main(["parse", "Bilateral pulmonary infection, one infected area, all left lung.", "--laterality", "image"])
    out = capsys.readouterr().out
    assert "picture left: upper, middle, lower\n" in out
    assert "patient right: upper, middle, lower\n" in out
    assert "count:     1\n" in out
    assert "understood" not in out
    assert "for the network (sides of the picture): Bilateral pulmonary" not in out
    assert "for the network (sides of the picture): Unilateral pulmonary infection, one infected area, upper" in out
    assert "warning:   says bilateral but names the left side only\n" in out


def test_no_lesion(capsys):
    main(["parse", "Both lungs are clear.", "--laterality", "patient"])
    assert "places:    none (the sentence names no lesion)\n" in capsys.readouterr().out


def test_polyps(capsys):
    main(["parse", "two polyps in top left, right of the image", "--laterality", "image", "--grammar", "polyp"])
    out = capsys.readouterr().out
    assert "places:    top left, right\n" in out
    assert "patient" not in out


def test_a_refusal_is_one_line_and_fails(capsys):
    assert main(["parse", "flurb of the left lung", "--laterality", "image"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: sentence not understood: 'flurb'")
    assert captured.err.count("\n") == 1


def test_laterality_must_be_said(capsys):
    with pytest.raises(SystemExit):
        main(["parse", "left lung opacity"])
    assert "--laterality" in capsys.readouterr().err
