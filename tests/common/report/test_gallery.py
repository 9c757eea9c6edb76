"""The gallery: parsed as a browser does, with hostile names and sentences."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from common.report import write_gallery


class Page(HTMLParser):
    """Collects the rows' texts, every tag, and the addresses of a page."""

    def __init__(self, path):
        super().__init__()
        self.rows, self.tags, self.links, self.title = [], [], [], ""
        self._in = None
        self.source = Path(path).read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        attrs = dict(attrs)
        self.links += [attrs[k] for k in ("src", "href") if k in attrs]
        if tag == "tr":
            self.rows.append({"class": attrs.get("class"), "text": "", "images": []})
        if tag == "img":
            self.rows[-1]["images"].append(attrs)
        self._in = tag

    def handle_data(self, data):
        if self._in == "title":
            self.title += data
        elif self.rows:
            self.rows[-1]["text"] += data


def row(file="a.png", verdict="ok", **more):
    return {"file": file, "verdict": verdict, **more}


def test_a_row_shows_file_sentence_sides_verdict_and_reason(tmp_path):
    write_gallery(
        [
            row(
                "x/a.dcm",
                "review",
                overlay="overlays/a.jpg",
                sentence="left lung",
                sides=["patient left"],
                reason="empty",
            )
        ],
        tmp_path / "index.html",
        "Study 7",
    )
    page = Page(tmp_path / "index.html")
    (_, found) = page.rows
    assert page.title.strip() == "Study 7"
    for words in ("x/a.dcm", "left lung", "patient left", "Review", "empty"):
        assert words in found["text"]
    assert found["images"][0]["loading"] == "lazy" and found["images"][0]["src"] == "overlays/a.jpg"


def test_failed_files_are_shown_and_counted_at_the_top(tmp_path):
    rows = [row("bad.dcm", "failed", reason="no pixels")] + [row(f"{i}.png") for i in range(1200)]
    page = Page(write_gallery(rows, tmp_path / "g.html", "t"))
    top = page.source[: page.source.index("<table>")]
    words = re.sub(r"<[^>]+>", "", top[top.index("<fieldset>") :])
    assert re.search(r"All 1,201\s*Failed 1\s*Done 1,200", words) and "Review" not in words
    assert page.rows[1]["class"] == "failed" and "no pixels" in page.rows[1]["text"]
    assert "no overlay" in page.rows[1]["text"] and not page.rows[1]["images"]
    assert len(page.rows) == 1202


def test_each_count_hides_the_other_rows(tmp_path):
    page = Page(write_gallery([row(verdict="ok"), row(verdict="failed")], tmp_path / "g.html", "t"))
    for verdict in ("ok", "failed"):
        assert f'id="only-{verdict}"' in page.source
        assert f"body:has(#only-{verdict}:checked) tbody tr:not(.{verdict}) {{ display: none; }}" in page.source


hostile = st.text(st.characters(codec="utf-8", exclude_characters="\0")) | st.sampled_from(
    ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "&amp;lt;", "'\"`", "</title></table>", "{}%s\n\t"]
)


@given(hostile, hostile, hostile, hostile)
def test_words_never_become_markup(tmp_path_factory, file, sentence, reason, title):
    folder = tmp_path_factory.mktemp("g")
    good = Page(
        write_gallery([row("a", "note", overlay="o.jpg", sentence="b", sides=["s"], reason="c")], folder / "1", "d")
    )
    found = [row(file, "note", overlay="o.jpg", sentence=sentence or "b", sides=["s"], reason=reason)]
    bad = Page(write_gallery(found, folder / "2", title))
    assert [t for t in bad.tags if t != "br"] == [t for t in good.tags if t != "br"]
    assert bad.links == good.links
    normal = (sentence or "b").replace("\r\n", "\n").replace("\r", "\n")
    assert normal in bad.rows[1]["text"].replace("\r\n", "\n").replace("\r", "\n")


@pytest.mark.parametrize("name", ["a b.jpg", "#1?.jpg", "100%.jpg", "q'\".jpg", "a:b.jpg", "é漢.jpg", "x\ny.jpg"])
def test_links_lead_to_the_overlay_whatever_its_name(tmp_path, name):
    (tmp_path / "overlays").mkdir()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "overlays" / name)
    for overlay in (f"overlays/{name}", tmp_path / "overlays" / name):
        page = Page(write_gallery([row(overlay=overlay)], tmp_path / "index.html", "t"))
        for link in page.links:
            assert not re.search(r"[:?#\"'\s]", link) and not link.startswith("/")
            assert (tmp_path / unquote_to_bytes(link).decode()).is_file()


def test_names_that_are_no_utf8_are_shown(tmp_path):
    page = Page(write_gallery([row("bad\udcff.png", overlay="o\udcff.jpg")], tmp_path / "g.html", "t"))
    assert "bad?.png" in page.rows[1]["text"] and page.links[0] == "o%FF.jpg"


def test_the_page_needs_nothing_from_elsewhere(tmp_path):
    page = Page(write_gallery([row(overlay="overlays/a.jpg")], tmp_path / "g.html", "t"))
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert not re.search(r"https?:|url\(|@import|//", page.source)


def test_an_unknown_verdict_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"unknown verdict \['fine'\]; use failed, review, note, ok"):
        write_gallery([row(verdict="fine")], tmp_path / "g.html", "t")
    assert not list(tmp_path.iterdir())


def test_no_rows_make_an_empty_page(tmp_path):
    page = Page(write_gallery([], tmp_path / "new" / "g.html", "t"))
    assert len(page.rows) == 1 and "All <b>0</b>" in page.source
