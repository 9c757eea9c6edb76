"""``/help``: which sentences are understood, as a page."""

from __future__ import annotations

import html

from common.prompts import parse
from common.prompts.vocabulary import ELSEWHERE, FINDINGS, VAGUE

# sentences and whose sides they are in; the page shows what is understood of each, as the parser says it now
EXAMPLES = {
    "chest": (
        ("Opacity in the left lower lobe.", "patient"),
        ("Bilateral consolidation, worse at the bases.", "patient"),
        ("Right upper lobe mass. No pleural effusion.", "patient"),
        ("No focal consolidation, effusion or pneumothorax.", "patient"),
        ("Unilateral pulmonary infection, one infected area, middle lower left lung.", "image"),
    ),
    "polyp": (("One small polyp, located in top-left of the image.", "image"),),
}


def page() -> str:
    """The page, HTML."""
    rows = []
    for grammar, examples in EXAMPLES.items():
        for sentence, laterality in examples:
            understood = parse(sentence, laterality, grammar).caption(laterality)  # type: ignore[arg-type]
            rows.append(f"<tr><td>{_text(sentence)}<td>{laterality}<td>{_text(understood)}</tr>")
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Accepted sentences</title>
<style>body {{ font: 16px/1.5 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em }}
td, th {{ text-align: left; padding: .2em 1em .2em 0; vertical-align: top }} dt {{ font-weight: bold }}</style>
<h1>Accepted sentences</h1>
<p>Research use only: not a medical device, not for clinical decisions.</p>
<p>Write where the lesions are, in English, as in a report. <b>laterality</b> says whose left you mean: <b>patient</b>
is the clinician's, <b>image</b> the left of the picture. It has no default: with a sentence, choose one. A sentence
that is not understood is refused with the words that stopped it. Without a sentence the default one is used; it
asserts disease everywhere, and the answer says so.</p>
<table><tr><th>sentence<th>laterality<th>understood, in the same sides</tr>
{chr(10).join(rows)}
</table>
<h2>Words</h2>
<dl>
<dt>Places<dd>left, right, bilateral, both lungs; upper, middle, lower; lobes, lingula, base, apex, hilum, zones
<dt>Findings<dd>{_words(FINDINGS)}
<dt>Findings only with a place in a lung<dd>{_words(VAGUE)}
<dt>Read, but outside the lungs: they mark nothing<dd>{_words(ELSEWHERE)}
<dt>Denial<dd>no, without, free of, negative for, clear, resolved: what is denied marks nothing
<dt>Polyps<dd>top, bottom, left, right, center, and pairs such as top-left; a number of polyps
</dl>
<p>Misspelt words are repaired where only one is meant. On the command line:
<code>python -m tools parse "SENTENCE" --laterality patient</code></p>
</html>
"""


def _words(words: frozenset[str]) -> str:
    return _text(", ".join(sorted(words)))


def _text(text: str) -> str:
    return html.escape(text)
