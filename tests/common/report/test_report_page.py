"""The report page: what is written beside it, and what a browser makes of hostile rows."""

import json
import re
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from common.errors import UserError
from common.report.report_page import thumbnail_path, write_report, write_thumbnail

HOSTILE = [
    "<script>document.title='bad'</script>",
    "<img src=x onerror=\"document.title='bad'\">",
    "a\nb'\"\u2028`${1}",
    "</script>",
    "漢字 é",
    "bytes \udcff",
]


def row(source="a.png", verdict="ok", **more):
    return {"source": source, "status": "done", "verdict": verdict, **more}


def read(folder):
    """Columns and whole rows as the page gets them, in the page's order."""
    page = (folder / "report.html").read_text(encoding="utf-8")
    columns, whole = [], []
    for name in re.findall(r'<script src="([^"]+)"', page):
        found = re.fullmatch(r"addRows\((.*)\);\n", (folder / name).read_text(encoding="ascii"), re.DOTALL)
        columns.append(
            {k: [c["of"][i] for i in c["at"]] if isinstance(c, dict) else c for k, c in json.loads(found[1]).items()}
        )
    parts = json.loads(re.search(r"const PARTS = (.*);</script>", page)[1])
    for number, name in enumerate(parts["details"]):
        found = re.fullmatch(r"addDetails\((\d+), (.*)\);\n", (folder / name).read_text(encoding="ascii"), re.DOTALL)
        assert int(found[1]) == number
        whole.append(json.loads(found[2]))
    assert all(len(part) == parts["size"] for part in whole[:-1])
    return page, columns, whole


def draw(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((600, 900, 3), 90, np.uint8)).save(path)


def test_all_rows_are_there_in_parts(tmp_path):
    rows = [row(f"{number}.png", "review" if number == 7 else "ok", new_column=number) for number in range(5301)]
    write_report(iter(rows), tmp_path, "t")
    _, columns, whole = read(tmp_path)
    assert [len(part["source"]) for part in columns] == [5000, 301]
    assert [name for part in columns for name in part["source"]] == [r["source"] for r in rows]
    assert columns[0]["verdict"][7] == "review"
    # what the page does not know is in the whole row
    assert [r["new_column"] for part in whole for r in part] == list(range(5301))


def test_numbers_of_tables_are_numbers_to_sort_by(tmp_path):
    write_report([row(share="0.25", area_mm2="nan"), row(share=0.5, area_mm2=12), row()], tmp_path, "t")
    _, (columns,), _ = read(tmp_path)
    assert columns["share"] == [0.25, 0.5, ""] and columns["area_mm2"] == ["", 12.0, ""]


def test_thumbnails_are_made_once_and_anew_when_the_overlay_is(tmp_path):
    draw(tmp_path / "overlays" / "a.jpg")
    rows = [row(overlay="overlays/a.jpg"), row(overlay="overlays/gone.jpg"), row()]
    write_report(rows, tmp_path, "t")
    small = thumbnail_path(tmp_path, "overlays/a.jpg")
    _, (columns,), _ = read(tmp_path)
    assert columns["thumbnail"] == [small.relative_to(tmp_path / "report" / "thumbnails").as_posix(), "", ""]
    assert max(Image.open(small).size) == 256
    made = small.stat().st_mtime_ns
    write_report(rows, tmp_path, "t")
    assert small.stat().st_mtime_ns == made
    (tmp_path / "overlays" / "a.jpg").write_bytes(b"no picture")
    write_report(rows, tmp_path, "t")
    assert read(tmp_path)[1][0]["thumbnail"] == ["", "", ""]


def test_a_worker_writes_the_same_thumbnail_from_the_drawing(tmp_path):
    write_thumbnail(tmp_path, "o.jpg", np.full((512, 256, 3), 200, np.uint8))
    assert Image.open(thumbnail_path(tmp_path, "o.jpg")).size == (128, 256)


def test_parts_of_an_earlier_page_go_and_equal_rows_give_equal_bytes(tmp_path):
    write_report([row(f"{number}") for number in range(900)], tmp_path, "t")
    before = {path.name for path in (tmp_path / "report").glob("*.js")}
    write_report([row("other")], tmp_path, "t")
    after = {path.name for path in (tmp_path / "report").glob("*.js")}
    assert len(before) == 6 and len(after) == 2 and not before & after
    page = (tmp_path / "report.html").read_bytes()
    write_report([row("other")], tmp_path, "t")
    assert (tmp_path / "report.html").read_bytes() == page
    assert {path.name for path in (tmp_path / "report").glob("*.js")} == after


def test_no_rows_make_an_empty_page(tmp_path):
    page, columns, whole = read(write_report([], tmp_path, "t", ["0 files"]).parent)
    assert not columns and not whole and "<p>0 files</p>" in page


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "report").write_text("a file")
    with pytest.raises(UserError, match="cannot be written"):
        write_report([row()], tmp_path, "t")


def test_the_page_needs_nothing_from_elsewhere(tmp_path):
    page, _, _ = read(write_report([row()], tmp_path, "t").parent)
    assert not re.search(r"https?:|url\(|@import|src=\"//|innerHTML|eval\(|document\.write", page)


@given(st.text(st.characters(), max_size=30) | st.sampled_from(HOSTILE), st.sampled_from(HOSTILE))
def test_words_never_become_markup(tmp_path_factory, words, title):
    folder = tmp_path_factory.mktemp("r")
    write_report([row(words, prompt=words, reason=words, **{"<b>": words})], folder, title, [words])
    page, (columns,), ((whole,),) = read(folder)
    assert columns["source"] == [words] and columns["prompt"] == [words]
    assert (whole["<b>"] if words else "") == words
    # page text has the title and the summary escaped, the rows nowhere
    plain = write_report([], folder / "plain", "t", ["s"]).read_text(encoding="utf-8")
    assert len(re.findall(r"<\w+", page)) == len(re.findall(r"<\w+", plain)) + 1  # the script of the rows


@pytest.mark.full
def test_in_a_browser(tmp_path):
    """Reviews first, search, filter, sort, paging by keys, whole rows on demand, nothing executed."""
    if not (shutil.which("chromium") or shutil.which("google-chrome")):
        pytest.skip("no chromium")
    from tools.chromium import Chromium

    draw(tmp_path / "overlays" / "a #?%.jpg")
    rows = [row(f"{number:03}.png", "note" if number % 3 else "ok", share=number / 1000) for number in range(120)]
    said = {"verdict": "review", "overlay": "overlays/a #?%.jpg"}
    rows += [row(words, prompt=words, reason=words, hidden=words, **said) for words in HOSTILE]
    rows.append({"source": "gone.dcm", "status": "failed", "verdict": "failed", "reason": "0 bytes"})
    page = write_report(rows, tmp_path, "good")
    files = "[...document.querySelectorAll('#rows .file')].map(f => f.textContent)"
    with Chromium(400, 800, dark=True) as browser:
        browser.open(page)
        browser.wait("document.documentElement?.dataset.ready")
        first = browser.evaluate(files)
        assert first[:5] == HOSTILE[:5] and first[6] == "gone.dcm" and first[7] == "001.png" and len(first) == 50
        browser.wait("document.images[0].naturalWidth === 256")
        assert (
            browser.evaluate("document.querySelector('#rows a').getAttribute('href')") == "overlays/a%20%23%3F%25.jpg"
        )
        # no sideways scrolling in a narrow window
        assert browser.evaluate("document.documentElement.scrollWidth") == 400
        browser.key("ArrowRight")
        browser.key("ArrowRight")
        assert browser.evaluate("document.getElementById('place').textContent") == "101–127 of 127, page 3 of 3"
        browser.key("ArrowRight")
        browser.key("ArrowLeft")
        assert "page 2 of 3" in browser.evaluate("document.getElementById('place').textContent")
        # it comes back as it was left
        browser.call("Page.reload")
        browser.wait("document.documentElement?.dataset.ready && document.getElementById('place').textContent")
        assert "page 2 of 3" in browser.evaluate("document.getElementById('place').textContent")
        browser.key("/")
        for letter in "0 BYTES":
            browser.key(letter, letter)
        browser.wait(f"{files}.length === 1")
        assert browser.evaluate(files) == ["gone.dcm"]
        browser.evaluate("$('words').value = ''; $('words').dispatchEvent(new Event('input'))")
        browser.wait(f"{files}.length === 50")
        browser.evaluate("$('sort').value = 'share'; $('sort').dispatchEvent(new Event('change')); $('down').click()")
        assert browser.evaluate(files)[:2] == ["119.png", "118.png"]
        browser.evaluate("document.querySelector('input[value=review]').click(); $('down').click()")
        assert browser.evaluate(files) == first[:6]
        browser.evaluate("document.querySelector('summary').click()")
        browser.wait("document.querySelector('dl dt')")
        assert HOSTILE[0] in browser.evaluate("[...document.querySelectorAll('dd')].map(d => d.textContent)")
        # every control has a name
        unnamed = (
            "[...document.querySelectorAll('input, select, button')].filter(e => !(e.labels?.length || e.ariaLabel"
        )
        assert browser.evaluate(unnamed + " || e.textContent.trim())).length") == 0
        assert browser.evaluate("document.title") == "good"
        assert browser.errors == []
