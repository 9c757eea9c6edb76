"""What a stranger meets first: links that lead somewhere, commands that exist, nothing of anybody's machine."""

import fnmatch
import json
import re
import subprocess
from pathlib import Path

import pytest
import torch

from common.files import sha256_of
from tools.__main__ import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("bundles/*/docs/README.md"))]


def tracked() -> list[Path]:
    try:
        names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no git checkout")
    return [ROOT / name for name in names.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_paths_exist(page):
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if not link.startswith("http")]
    assert [link for link in links if not (page.parent / link).exists()] == []
    if page.parent == ROOT / "docs":
        return  # guides name files that their reader makes
    named = re.findall(r"(?<![/*\w])(?:bundles|common|tools|tests|docs)/[\w/]+\.(?:json|py|md|jpg|txt)\b", text)
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_exist(page):
    used = set(re.findall(r"python -m tools ([a-z][a-z-]+)", page.read_text(encoding="utf-8")))
    assert used <= COMMANDS.keys()


def test_every_command_has_a_module():
    for module, line in COMMANDS.values():
        assert (ROOT / (module.replace(".", "/") + ".py")).is_file()
        assert line


def test_the_repository_is_small_and_names_no_machine():
    files = tracked()
    assert sum(path.stat().st_size for path in files) < 20_000_000
    places = re.compile(rb"(?<![\w.])/(?:work|root|home|tmp)/[a-z]")
    found = [
        path.relative_to(ROOT).as_posix()
        for path in files
        if path.suffix in (".py", ".md", ".json", ".toml", ".txt", ".yml", ".csv") and places.search(path.read_bytes())
    ]
    assert found == []


WEIGHTS = ("*.pt", "*.pth", "*.ts", "*.onnx", "*.safetensors", "*.pt2", "*.bin", "*.ckpt")
SMALL = ROOT / "bundles" / "ssa" / "models" / "small.pt"


def test_no_weights_are_in_git_but_one_bundles_small_ones():
    found = {path for path in tracked() if any(fnmatch.fnmatch(path.name, pattern) for pattern in WEIGHTS)}
    assert found - {SMALL} == {ROOT / "common" / "networks" / "text" / "compact" / "model.safetensors"}
    models = {path for path in tracked() if path.parent.name == "models" and path.parents[2] == ROOT / "bundles"}
    assert models - {SMALL, SMALL.with_suffix(".json")} <= {*ROOT.glob("bundles/*/models/.gitkeep")}
    assert (SMALL in models) == (SMALL.with_suffix(".json") in models)


def test_git_takes_the_small_weights_and_no_others():
    def ignored(name: str) -> bool:
        done = subprocess.run(["git", "check-ignore", "-q", "--no-index", name], cwd=ROOT, capture_output=True)
        if done.returncode > 1:
            pytest.skip("no git checkout")
        return done.returncode == 0

    assert not ignored("bundles/ssa/models/small.pt") and not ignored("bundles/ssa/models/small.json")
    for name in ("ssa/models/model.pt", "ssa/models/previous_small.pt", "unet/models/small.pt"):
        assert ignored(f"bundles/{name}"), name
    assert ignored(".venv")  # also where it is a link: a commit of one would delete the folder of whoever merges it


def test_the_small_weights_are_small_in_half_precision_and_name_their_data():
    if SMALL not in tracked():
        pytest.skip("bundles/ssa/models/small.pt is not in git yet")
    facts = json.loads(SMALL.with_suffix(".json").read_text(encoding="utf-8"))
    state = torch.load(SMALL, weights_only=True)
    numbers = {key: value for key, value in state.items() if value.is_floating_point()}
    assert {value.dtype for value in numbers.values()} == {torch.float16} and facts["precision"] == "float16"
    assert facts["parameters"] == sum(value.numel() for value in numbers.values()) <= 6_000_000
    assert facts["weights"] == {"bytes": SMALL.stat().st_size, "sha256": sha256_of(SMALL)}
    terms = (ROOT / "bundles" / "ssa" / "docs" / "data_license.txt").read_text(encoding="utf-8")
    assert facts["training_data"]["terms"]
    for name, text in facts["training_data"]["terms"].items():
        assert f"{name}: {text}" in " ".join(terms.split())
    assert facts["data"]["items"] and facts["commit"] and facts["history"]
    import common

    network = common.load("ssa", ["small"], "cpu").network
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
