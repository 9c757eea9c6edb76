"""Trains a bundle in child processes that are killed, for `test_resume.py`; a program of its own.

The parent imports MONAI once and forks, so that a run costs a second instead of ten. It computes nothing itself:
torch's threads do not survive a fork.
"""

import os
import signal
import sys
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from monai.bundle import ConfigWorkflow

import common.engines.checkpoint

ROOT = Path(__file__).resolve().parents[3]
CONFIGS = ROOT / "bundles" / "unet" / "configs"


def train(data: str, folder: Path, workers: int, resume: bool, kill_at_sync: int | None) -> None:
    """One run; with `kill_at_sync` the process kills itself at that call of fsync: in the middle of a save."""
    if kill_at_sync is not None:
        sync, calls = os.fsync, []

        def killing(handle):
            calls.append(handle)
            if len(calls) == kill_at_sync:
                os.kill(os.getpid(), signal.SIGKILL)
            sync(handle)

        common.engines.checkpoint.os.fsync = killing
    torch.set_num_threads(1)
    flow = ConfigWorkflow(
        [str(CONFIGS / "train.json"), str(CONFIGS / "demo.json")],
        str(CONFIGS / "metadata.json"),
        logging_file=False,
        dataset_dir=data,
        output_dir=str(folder),
        image_size=[64, 64],
        batch_size=4,
        num_workers=workers,
        epoch_length=2,
        max_epochs=6,
        resume=resume,
        # what must not be forgotten by a resumed run: dropout and augmentation draw random numbers in every step
        **{"network_def::network::dropout": 0.2, "flip_prob": 0.5, "train::dataset::num_workers": 0,
           "validate::dataset::num_workers": 0},
    )  # fmt: skip
    flow.initialize()
    flow.run()
    flow.finalize()


def child(*args) -> tuple[int, float]:
    """Run `train` in a forked process; returns (pid, start)."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid, time.monotonic()
    code = 1
    try:
        train(*args)
        code = 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main(data: str, out: str, workers: str, plan: list[str]) -> None:
    """`plan`: "t0.35" kills at 35 % of the unbroken run's time, "s4" at the fourth sync."""
    folder, workers = Path(out), int(workers)
    pid, began = child(data, folder / "unbroken", workers, False, None)
    assert wait(pid) == 0
    seconds = time.monotonic() - began
    print(f"unbroken: {seconds:.1f} s", flush=True)
    for moment in plan:
        kind, value = moment[0], float(moment[1:])
        place = folder / moment
        pid, _ = child(data, place, workers, False, int(value) if kind == "s" else None)
        if kind == "t":
            time.sleep(seconds * value)
            os.kill(pid, signal.SIGKILL)
        code = wait(pid)
        print(f"{moment}: {code}, {'last.pt' if (place / 'last.pt').exists() else 'nothing'} saved", flush=True)
        assert code == -signal.SIGKILL, code
        pid, _ = child(data, place, workers, True, None)
        assert wait(pid) == 0


if __name__ == "__main__":
    main(*sys.argv[1:4], sys.argv[4:])
