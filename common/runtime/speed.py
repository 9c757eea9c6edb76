"""How long calls take, measured in turn: what else the machine does meets all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median


def milliseconds(
    calls: Mapping[str, Callable[[], object]], seconds: float = 2.0, least: int = 5, warm: int = 3
) -> dict[str, float]:
    """Median milliseconds of each call.

    Args:
        calls: by name; each ends when its work is done.
        seconds: about what one of them may take in all.
        least: rounds at least.
        warm: rounds before, which do not count: TorchScript optimises in them.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    start = time.perf_counter()
    done = 0
    while done < warm + least or time.perf_counter() - start < seconds * len(calls):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            taken[name].append((time.perf_counter() - begin) * 1e3)
        done += 1
    return {name: median(values[warm:]) for name, values in taken.items()}
