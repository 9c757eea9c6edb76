"""The order of trainings under a budget, also by simulation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.benchmark.plan import STEP_SECONDS, Job, Plan

SIZE = (112, 112)


def job(name="a", bundle="unet", steps=1000, epoch_steps=100, **more):
    return Job(name, bundle, SIZE, steps, epoch_steps, **more)


def measured(*jobs, seconds=0.1, start=10.0, **more):
    """A plan that knows what each of its jobs takes."""
    plan = Plan(jobs, **more)
    for each in jobs:
        plan.learn(each, seconds, start)
    return plan


def test_the_most_valuable_that_fits_comes_first_and_gets_the_rest_of_the_time():
    a, b = job("a"), job("b", "ssa")
    assert measured(a, b, margin=15.0).next(1000) == (a, 985.0)


def test_one_that_does_not_fit_is_passed_over_for_one_that_does():
    long, short = job("long", steps=10_000), job("short", steps=500)
    assert measured(long, short).next(100)[0] is short


def test_the_rest_of_the_time_goes_to_the_most_valuable_unfinished_one():
    a, b, c = job("a", steps=10_000), job("b", steps=8_000), job("c", steps=100)
    plan = measured(a, b, c)
    assert plan.next(100)[0] is c
    plan.progress(c, 100)
    assert plan.next(85) == (a, 70.0)


def test_time_too_short_for_an_epoch_is_offered_to_a_shorter_epoch():
    """An epoch that is not finished is lost."""
    a, b = job("a", epoch_steps=1000, steps=2000), job("b", "ssa", epoch_steps=100)
    plan = measured(a, b, margin=0.0)
    assert plan.next(50)[0] is b
    assert plan.next(19.9) is None
    plan.progress(a, 1900)
    assert plan.next(21)[0] is a, "what is left of it is less than an epoch"


def test_the_margin_is_not_given_away():
    a = job(steps=100)
    assert measured(a, margin=15.0).next(35.0) == (a, 20.0)
    assert measured(a, margin=15.0).next(34.9) is None


def test_finished_and_failed_jobs_are_not_chosen():
    a, b, c = job("a", done=1000), job("b"), job("c")
    plan = measured(a, b, c)
    assert plan.next(1000)[0] is b
    plan.drop(b)
    assert plan.next(1000)[0] is c
    plan.progress(c, c.steps)
    assert plan.next(1000) is None


def test_the_start_counts():
    a = job(steps=100)
    assert measured(a, start=300.0, margin=0.0).next(200) is None


def test_a_kind_is_estimated_by_what_was_measured_of_others():
    """A machine twenty times as fast for one bundle is so for the other; larger pictures cost more."""
    a, b = job("a", "mmi_unet"), Job("b", "ssa", (224, 224), 1000, 100, batch_size=32)
    plan = Plan([a, b])
    assert plan.step_seconds(b) == pytest.approx(STEP_SECONDS["ssa"] * 8)
    plan.learn(a, STEP_SECONDS["mmi_unet"] / 20, 33.0)
    assert plan.step_seconds(b) == pytest.approx(STEP_SECONDS["ssa"] * 8 / 20)
    assert plan.starting(b) == 33.0
    plan.learn(b, 0.3, 44.0)
    assert (plan.step_seconds(b), plan.starting(b), plan.starting(a)) == (0.3, 44.0, 33.0)


def test_an_unknown_bundle_is_taken_for_the_slowest():
    assert Plan([]).step_seconds(job(bundle="new")) == max(STEP_SECONDS.values())


JOBS = st.lists(
    st.builds(
        lambda bundle, epochs, epoch_steps, seconds: (bundle, epochs * epoch_steps, epoch_steps, seconds),
        st.sampled_from(sorted(STEP_SECONDS)), st.integers(1, 20), st.integers(1, 300), st.floats(0.001, 2.0),
    ),
    min_size=1, max_size=8,
)  # fmt: skip


def run(job, limit, seconds, start, jitter):
    """A training as TimeLimit ends it: (seconds taken, steps kept)."""
    epoch = job.epoch_steps * seconds * jitter
    took, done = start, job.done
    while done < job.steps:
        if took + epoch > limit:
            # the first epoch is begun without knowing how long it will be, and broken off
            return (max(took, limit) if done == job.done else took), done
        took, done = took + epoch, min(done + job.epoch_steps, job.steps)
    return took, done


@given(JOBS, st.floats(30, 20_000), st.floats(1, 60), st.floats(1.0, 1.5))
def test_a_simulated_budget(rows, budget, start, jitter):
    """Never more than the budget; no pause while something fits; by value among what fits."""
    jobs = [Job(str(n), bundle, (64 + n, 64), steps, epoch) for n, (bundle, steps, epoch, _) in enumerate(rows)]
    true = {job.name: seconds for job, (*_, seconds) in zip(jobs, rows, strict=True)}
    plan, clock, calls = Plan(jobs, start_seconds=start), 0.0, 0
    while (chosen := plan.next(budget - clock)) is not None:
        job, limit = chosen
        usable = budget - clock - plan.margin
        assert limit <= usable
        assert job.done < job.steps
        before = jobs[: jobs.index(job)]
        rivals = [other for other in before if other.done < other.steps]
        if plan.seconds(job) <= usable:
            assert all(plan.seconds(other) > usable for other in rivals)
        else:
            assert all(plan.seconds(other) > usable for other in jobs if other.done < other.steps)
            assert all(plan.least_seconds(other) > usable for other in rivals)
        took, done = run(job, limit, true[job.name], start, jitter)
        clock += took
        assert clock <= budget
        plan.learn(job, true[job.name] * jitter, start)
        plan.progress(job, done)
        calls += 1
        assert calls < 500, "the same job over and over"
    left = budget - clock - plan.margin
    assert all(plan.least_seconds(job) > left for job in jobs if job.done < job.steps)
