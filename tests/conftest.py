"""Fixtures that every test may use: where the real data is, if it is there."""

import logging
import os
import re
from pathlib import Path

import pytest
from hypothesis import settings

# Tests run in as many workers as there are cores, so each has one thread. With more, threads of one worker wait for
# those of another: the base tests of a text bundle took seven times as long. Before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def _real(name: str) -> Path:
    """A folder below CHEST_REFSEG_DATA, or a visible skip."""
    root = os.environ.get("CHEST_REFSEG_DATA")
    if not root:
        pytest.skip("real data: CHEST_REFSEG_DATA names no folder")
    path = Path(root) / name
    if not path.exists():
        pytest.skip(f"real data: {name} is not in CHEST_REFSEG_DATA")
    return path


@pytest.fixture(scope="session")
def qata_dir() -> Path:
    return _real("QaTa-COV19-v2")


@pytest.fixture(scope="session")
def kvasir_dir() -> Path:
    return _real("Kvasir-SEG")


@pytest.fixture(scope="session")
def ct_slices_dir() -> Path:
    return _real("COVID-CT-slices")


@pytest.fixture(scope="session")
def dicom_dir() -> Path:
    return _real("dicom")


@pytest.fixture(scope="session")
def indiana_dir() -> Path:
    return _real("ecgen-radiology")


settings.register_profile("ci", max_examples=25, deadline=None, derandomize=True)
settings.register_profile("full", max_examples=2000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(autouse=True)
def _no_closed_handlers():
    """MONAI's logging.conf binds the root's handler to a test's captured output, which closes with the test."""
    for handler in logging.root.handlers[:]:
        if getattr(getattr(handler, "stream", None), "closed", False):
            logging.root.removeHandler(handler)


# Seconds of the base tests, a bundle each: printed, not asserted, since a clock is no test.
BUNDLE_SECONDS: dict[str, float] = {}
MOST_SECONDS = 45


def pytest_runtest_logreport(report):
    bundle = re.search(r"tests/bundles/.*\[(\w+)", report.nodeid)
    if bundle:
        BUNDLE_SECONDS[bundle[1]] = BUNDLE_SECONDS.get(bundle[1], 0.0) + report.duration


def pytest_terminal_summary(terminalreporter):
    for name, seconds in sorted(BUNDLE_SECONDS.items()):
        over = f": more than {MOST_SECONDS} s, find out why" if seconds > MOST_SECONDS else ""
        terminalreporter.write_line(f"bundle {name}: {seconds:.1f} s of base tests{over}")
