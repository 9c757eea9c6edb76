"""What a stranger meets first: links that lead somewhere, commands that exist, nothing of anybody's machine."""

import re
import subprocess
from pathlib import Path

import pytest

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
