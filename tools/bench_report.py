"""``python -m tools bench-report``: write a report of many rows and open it in headless Chromium, with times."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

SENTENCES = (
    "Bilateral pulmonary infection, two infected areas, lower left lung and lower right lung.",
    "Unilateral pulmonary infection, one infected area, upper left lung.",
    "Opacity in the right lower lobe.",
)
READY = "document.documentElement?.dataset.ready"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--rows", type=int, default=50_000, help="rows of the report (default: 50000)")
    parser.add_argument("--output", type=Path, help="keep the report in this folder (default: a temporary one)")
    parser.add_argument("--repeat", type=int, default=3, help="how often the page is opened (default: 3)")


def main(args: argparse.Namespace) -> None:
    """Print the seconds."""
    from common.report.report_page import write_report

    with tempfile.TemporaryDirectory(prefix="bench-report-") as temporary:
        folder = args.output or Path(temporary)
        _thumbnails(folder, args.rows)
        start = time.perf_counter()
        page = write_report(_rows(args.rows), folder, f"{args.rows:,} rows")
        print(f"written in {time.perf_counter() - start:.1f} s, small pictures not counted")
        parts = list((folder / "report").glob("*.js"))
        loaded = sum(path.stat().st_size for path in parts if path.name.startswith("rows-"))
        print(f"loaded when opened: {loaded / 1e6:.1f} MB; when rows are opened: {len(parts)} parts in all")
        for _ in range(args.repeat):
            print(_measure(page))


def _overlay(number: int) -> str:
    return f"overlays/study {number // 100:04}/image-{number:06}.png.jpg"


def _rows(count: int):
    """Rows like those of a run: 3 % for review, 1 % failed, 6 % with a note."""
    for number in range(count):
        kind = number % 100
        verdict = "review" if kind < 3 else "failed" if kind < 4 else "note" if kind < 10 else "ok"
        done = verdict != "failed"
        yield {
            "source": f"study {number // 100:04}/image-{number:06}.png",
            "status": "done" if done else "failed",
            "verdict": verdict,
            "reason": "" if done else "truncated: 512 of 2048 rows; copy the file again",
            "warnings": {
                "review": f"other side: {51 + number % 49}% of the mask is patient left",
                "note": "no orientation in the file: taken as displayed, sides are not known",
            }.get(verdict, ""),
            "overlay": _overlay(number) if done else "",
            "mask": f"masks/study {number // 100:04}/image-{number:06}.png" if done else "",
            "sha256": f"{number * 2654435761:064x}",
            "prompt": f"{SENTENCES[number % 3]} Report {number}.",
            "prompt_laterality": "patient",
            "prompt_used": "given",
            "understood": SENTENCES[number % 3],
            "understood_laterality": "patient",
            "sides_named": "patient left, patient right",
            "mask_sides": "patient left",
            "mask_zones": "patient left lower",
            "rows": 2048, "columns": 2048, "pixels": 1000 + number, "share": round((1000 + number) / 2048**2, 6),
            "area_mm2": round((1000 + number) * 0.04, 2),
        }  # fmt: skip


def _thumbnails(folder: Path, count: int) -> None:
    """A small picture and an overlay for each row: every one a file of its own, of 50 different pictures."""
    import numpy as np
    from PIL import Image

    from common.report.report_page import thumbnail_path

    rng = np.random.default_rng(0)
    pictures = []
    for _ in range(50):
        grey = Image.fromarray(rng.integers(40, 200, (12, 12, 3), dtype=np.uint8)).resize((256, 256), Image.BICUBIC)
        path = folder / "picture.jpg"
        folder.mkdir(parents=True, exist_ok=True)
        grey.save(path, quality=75)
        pictures.append(path.read_bytes())
        path.unlink()
    for number in range(count):
        if number % 100 == 3:
            continue
        for path in (folder / _overlay(number), thumbnail_path(folder, _overlay(number))):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(pictures[number % 50])


def _measure(page: Path) -> str:
    """Open the page and use it once; seconds by this process's clock, so that all waiting counts."""
    from tools.chromium import Chromium

    with Chromium() as browser:

        def seconds(script: str, until: str) -> float:
            start = time.perf_counter()
            browser.evaluate(script)
            browser.wait(until)
            return time.perf_counter() - start

        start = time.perf_counter()
        browser.open(page)
        browser.wait(READY)
        drawn = time.perf_counter() - start
        browser.wait(
            "[...document.images].filter(i => i.getBoundingClientRect().top < innerHeight).every(i => i.naturalWidth)"
        )
        seen = time.perf_counter() - start
        first = "document.querySelector('#rows .file').textContent"
        before = browser.evaluate(first)
        leaf = seconds("go(1)", f"{first} !== {before!r}")
        find = seconds(
            "$('words').value = 'image-001234'; $('words').dispatchEvent(new Event('input'))", "shown.length === 1"
        )
        seconds("$('words').value = ''; $('words').dispatchEvent(new Event('input'))", "shown.length > 1")
        order = seconds("$('sort').value = 'share'; $('sort').dispatchEvent(new Event('change'))", "state.sort")
        heap = browser.evaluate("performance.memory.usedJSHeapSize") / 1e6
        if browser.errors:
            raise RuntimeError(browser.errors[0])
    return (
        f"rows there after {drawn:.2f} s, pictures in sight after {seen:.2f} s; next page {leaf:.2f} s, "
        f"first search {find:.2f} s, sorting {order:.2f} s; {heap:.0f} MB of JavaScript"
    )
