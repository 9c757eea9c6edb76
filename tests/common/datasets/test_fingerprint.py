from common.datasets.fingerprint import fingerprint


def items(folder, text="left lung", content="x"):
    folder.mkdir(exist_ok=True)
    (folder / "1.png").write_text(content)
    return [{"image": str(folder / "1.png"), "label": "", "text_prompt": text, "laterality": "image"}]


def test_it_depends_on_names_sizes_and_sentences_and_not_on_the_place(tmp_path):
    here = fingerprint(items(tmp_path / "a"))
    assert here["items"] == 1
    assert here == fingerprint(items(tmp_path / "b"))
    others = [items(tmp_path / "c", text="right lung"), items(tmp_path / "d", content="xx"), []]
    assert len({fingerprint(other)["sha256"] for other in others} | {here["sha256"]}) == 4
