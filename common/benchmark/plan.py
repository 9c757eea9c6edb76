"""Which training comes next when the time is short: the most valuable that fits, and no time left unused."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

# What a step of 16 images of 112 x 112 costs, in seconds on two CPU cores (RESULTS of protocol C: seconds of a run,
# validation included, over its 1,000 steps; GuideDecoder and Semi-MedRef, not measured yet, from their parts). Only
# their proportions matter once a step of any bundle has been measured.
STEP_SECONDS = {
    "unet": 0.46, "mmi_unet": 1.06, "ssa": 1.15, "biclip": 0.98, "c2seg": 1.17, "causal_clipseg": 1.22,
    "guide_decoder": 1.06, "semi_medref": 2.5,
}  # fmt: skip
USUAL = (112 * 112, 16)


@dataclass
class Job:
    """A training that may be broken off at the end of an epoch and continued later.

    Attributes:
        name: unique.
        bundle: its method.
        size: rows and columns of the picture.
        steps: of the whole training.
        epoch_steps: of an epoch: what is done of one that is broken off is lost.
        batch_size: images a step.
        done: steps whose result is kept.
    """

    name: str
    bundle: str
    size: tuple[int, int]
    steps: int
    epoch_steps: int
    batch_size: int = 16
    done: int = 0

    @property
    def kind(self) -> tuple[str, tuple[int, int], int]:
        """Jobs of one kind take the same time a step."""
        return self.bundle, self.size, self.batch_size


@dataclass
class Plan:
    """Trainings in the order of their value, and what is known of the time they take.

    Args:
        jobs: the most valuable first.
        start_seconds: from the start of a program to its first step, and from its last step to its end (evaluation),
            as long as none was measured.
        margin: seconds of the remaining time that no job gets: a step and a checkpoint that are still to be finished.
        speed: how many times faster than the table this machine is, as long as nothing was measured. A guess that is
            too low makes jobs seem not to fit; they are begun nevertheless where nothing else fits.
    """

    jobs: Sequence[Job]
    start_seconds: float = 60.0
    margin: float = 15.0
    speed: float = 1.0
    dropped: set[str] = field(default_factory=set)
    measured: dict[tuple, float] = field(default_factory=dict)
    starts: dict[tuple, float] = field(default_factory=dict)

    def next(self, remaining_seconds: float) -> tuple[Job, float] | None:
        """The next training and how long its program may run, start and end included; None if there is nothing to do.

        The first unfinished job that fits wholly; if there is none, the first of which an epoch fits, to be continued
        another time. The limit is all the time that remains: an estimate may be wrong, the budget holds.
        """
        usable = remaining_seconds - self.margin
        open_jobs = [job for job in self.jobs if job.done < job.steps and job.name not in self.dropped]
        for needed in (self.seconds, self.least_seconds):
            for job in open_jobs:
                if needed(job) <= usable:
                    return job, usable
        return None

    def learn(self, job: Job, seconds_per_step: float, start_seconds: float) -> None:
        """Take over what a job took: jobs of its kind will take the same, others in proportion."""
        self.measured[job.kind] = seconds_per_step
        self.starts[job.kind] = start_seconds

    def progress(self, job: Job, done: int) -> None:
        """Take over how many steps of a job are kept; ``job.steps`` if it stopped early and is finished."""
        job.done = done

    def drop(self, job: Job) -> None:
        """Do not choose it any more: it failed."""
        self.dropped.add(job.name)

    def step_seconds(self, job: Job) -> float:
        """What a step of a job takes: as measured; else by the table, at the speed at which other jobs ran."""
        if job.kind in self.measured:
            return self.measured[job.kind]
        ratios = [self.table(kind) / seconds for kind, seconds in self.measured.items()]
        speed = math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else self.speed
        return self.table(job.kind) / speed

    def starting(self, job: Job) -> float:
        """What its program takes beside its steps: as measured, else the longest of other jobs."""
        return self.starts.get(job.kind, max(self.starts.values(), default=self.start_seconds))

    def seconds(self, job: Job) -> float:
        """What the rest of a job takes."""
        return self.starting(job) + (job.steps - job.done) * self.step_seconds(job)

    def least_seconds(self, job: Job) -> float:
        """What its next epoch takes, or its rest if that is less."""
        return self.starting(job) + min(job.epoch_steps, job.steps - job.done) * self.step_seconds(job)

    @staticmethod
    def table(kind: tuple[str, tuple[int, int], int]) -> float:
        """Seconds a step on the machine of the table; an unknown bundle's are the most of all."""
        bundle, (rows, columns), batch_size = kind
        pixels, images = USUAL
        return STEP_SECONDS.get(bundle, max(STEP_SECONDS.values())) * rows * columns * batch_size / (pixels * images)
