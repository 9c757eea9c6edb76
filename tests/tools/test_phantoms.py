from common.datasets import load_dataset
from tools.__main__ import main


def test_writes_and_says_where(tmp_path, capsys):
    assert main(["phantoms", str(tmp_path / "p"), "--count", "20", "--size", "64", "--inbox", "1"]) == 0
    out = capsys.readouterr().out
    assert f"20 phantoms of 64 x 64 pixels: {tmp_path / 'p' / 'captions.csv'}" in out
    assert str(tmp_path / "p" / "inbox" / "prompts.csv") in out
    assert load_dataset("auto", tmp_path / "p", "test")


def test_fault_is_one_line(tmp_path, capsys):
    assert main(["phantoms", str(tmp_path), "--size", "8"]) == 2
    assert capsys.readouterr().err == "error: size: 8 pixels are too few to draw a chest; use 64 or more\n"
