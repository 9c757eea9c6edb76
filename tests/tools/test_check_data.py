import numpy as np
import pytest
from PIL import Image

from tools.__main__ import main

SENTENCE = "Unilateral pulmonary infection, one infected area, lower left lung."


@pytest.fixture
def data(tmp_path):
    mask = np.zeros((56, 56), np.uint8)
    mask[30:40, 8:18] = 255
    Image.fromarray(mask).save(tmp_path / "m.png")
    Image.fromarray(np.arange(56 * 56, dtype=np.uint8).reshape(56, 56)).save(tmp_path / "a.png")
    (tmp_path / "captions.csv").write_text(f'image,mask,text\na.png,m.png,"{SENTENCE}"\n')
    return tmp_path


def test_sound_data(data, capsys):
    assert main(["check-data", str(data), "--laterality", "image"]) == 0
    out = capsys.readouterr().out
    assert "count = connected components" in out
    assert "0 faults, 0 notes" in out


def test_wrong_laterality_is_a_note(data, capsys):
    assert main(["check-data", str(data), "--laterality", "patient"]) == 0
    assert "names the right of the picture, 100% of the mask is on the left" in capsys.readouterr().out


def test_faults_end_with_one(data, capsys):
    (data / "captions.csv").write_text(f'image,mask,text\na.png,m.png,"{SENTENCE}"\nb.png,m.png,"{SENTENCE}"\n')
    assert main(["check-data", str(data), "--laterality", "image"]) == 1
    assert "fault: captions.csv:3: no image b.png" in capsys.readouterr().out


def test_user_faults_end_with_two(data, capsys):
    assert main(["check-data", str(data)]) == 2
    assert "has no column laterality" in capsys.readouterr().err
    assert main(["check-data", str(data), "--laterality", "image", "--split", "all"]) == 2
    assert "--split: 'all' is unknown" in capsys.readouterr().err
