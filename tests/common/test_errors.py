import subprocess
import sys

import pytest
from monai.data import DataLoader, Dataset
from monai.transforms import Lambda

from common.errors import UserError, user_error


def test_the_line_is_found_below_what_wraps_it():
    try:
        try:
            raise UserError("x.png: empty; copy it again")
        except UserError as cause:
            raise RuntimeError("applying transform") from cause
    except RuntimeError as error:
        assert str(user_error(error)) == "x.png: empty; copy it again"


def test_a_bug_while_handling_a_fault_is_a_bug():
    try:
        try:
            raise UserError("x.png: empty")
        except UserError:
            raise KeyError("bug")  # noqa: B904
    except KeyError as error:
        assert user_error(error) is None
    assert user_error(ValueError("no")) is None
    assert user_error(None) is None


def fail(item):
    raise UserError("x.png: empty; copy it again")


@pytest.mark.parametrize("workers", [0, 2])
def test_out_of_a_data_loaders_worker(workers):
    loader = DataLoader(Dataset([0, 1], Lambda(fail)), num_workers=workers)
    with pytest.raises(Exception) as found:
        list(loader)
    assert str(user_error(found.value)) == "x.png: empty; copy it again"


def hooked(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", f"from common.errors import *; install_excepthook(); install_excepthook()\n{code}"],
        capture_output=True, text=True, env=environment or None,
    )  # fmt: skip
    assert done.returncode == 1
    return done.stderr


def test_the_hook_prints_one_line():
    assert hooked("raise UserError('x.png: empty')") == "error: x.png: empty\n"
    assert "Traceback" in hooked("raise ValueError('x')")
    assert "Traceback" in hooked("raise UserError('x')", CHEST_REFSEG_DEBUG="1")
