"""Phrases of chest reports that may turn the meaning of the places beside them in a way that is not worked out.

A sentence that names a place and a lesion and contains one of them is refused with its words: exceptions ("sparing the
left base"), sides compared ("than the left"), alternatives, questions, double denials ("not only"), the past ("two
years ago"), what lies outside the lung, and the words left and right in other meanings ("right at the base").

:func:`other_sides` finds words that declare whose sides a sentence means, if it is not the laterality it came with.
"""

from __future__ import annotations

import re

_SIDE = r"(?:left|right|lt|rt)"
_PLACE = (
    rf"(?:{_SIDE}|bilateral|both|upper|lower|mid|middle|apex|apices|apical|bases?|basal|basilar|hil\w+|perihilar"
    r"|lungs?|lobes?|zones?|lingula\w*)"
)
_LESION = (
    r"(?:opacit\w+|opacifications?|densit\w+|effusions?|fluid|consolidations?|infiltrates?|pneumonias?|mass|masses"
    r"|nodul\w+|pneumothora\w+|lesions?|tumou?rs?|cysts?|carcinoma|granulomas?|atelectasis|infections?)"
)
_NOUN = r"(?:lungs?|lobes?|zones?|bases?|basal|basilar|apex|apical|hil\w+|perihilar|upper|lower|mid\w*)"
_OUTER = r"(?:breasts?|ribs?|clavicles?|scapulae?|skin|nipples?|vessels?|bones?|chest wall|arms?)"
_PICTURE = r"(?:image|picture|film|radiograph|x-?ray|screen|frame|scan|slice|photo\w*|display|monitor)"
_VIEWER = r"(?:viewer|observer|reader|radiologist|onlooker)"
_PATIENT = r"(?:patient|pt|subject)"

# before any phrase is replaced by its mark
_RAW = (
    rf"\b{_LESION} (?:(?:has|have|is|are|was|were|been|now) ){{0,3}}"
    r"(?:shift\w*|moved|displaced|deviated|pushed|pulled|migrated)(?= (?:in)?to)",
    r"^\s*(?:should|is|are|does|do|did|was|were|has|have|can|could|would|will|any)\b",
    r"\bif (?:any|at all|present|real|so)\b",
    rf"\b{_LESION}[ -]free\b(?! (?:air|fluid))",
    rf"\b{_LESION} (?:\w+ )?(?:resection|excision|removal)\b",
    r"\b(?:not|no|never) (?:only|just|merely|simply|solely|less|fewer|question|doubt)\b",
    r"\b(?:concern|suspicion) (?:for|of)\b",
    r"[=\[\]{}~]|\(\s*[-–]\s*\)|[-–]\s*$",
)
# after the sides compared, the studies, the hypotheses and what goes on have been replaced
_MASKED = (
    r"\bruled out\b",
    r"\bspar(?:e|es|ed|ing)\b",
    r"\b(?:all|every|each|both|BOTH|bilateral\w*|entire|whole|any|none|nothing)\b[^;:]*"
    rf"\bbut (?:for )?(?:the )?(?!lungs?\b|lobes?\b|zones?\b){_PLACE}\b",
    rf"\bthan (?:that |those )?(?:on |in |at |of |for )?(?:the )?{_PLACE}\b",
    rf"\b(?:compared|comparison|relative|respect|contrast|opposed) (?:to|with) (?:that (?:of|on|in) )?(?:the )?"
    rf"(?:{_SIDE}|other)\b",
    rf"\b(?:vs|versus) (?:the )?(?:\w+ )?{_SIDE}\b|\b{_SIDE} (?:side )?(?:vs|versus)\b",
    rf"\bother (?:side|lung|hemithorax|base|apex|lobe|chest|one)\b(?! (?:{_LESION}|\w*abnormal\w*|findings?))",
    rf"\b(?:either|whether)(?: \w+){{0,3}}? (?:{_PLACE}|BOTH|side)\b|\ball right(?= *[:,])",
    r"\b(?:outside|external|externally|beyond)\b",
    rf"\bnon[ -]+(?:{_PLACE}|{_LESION}|opacified|consolidated|infiltrated|infected|thickened|collapsed|pulmonary)\b",
    r"\bnot (?:\w+ )?(?:in|within|inside) (?:the )?(?:lungs?|chest|thorax|pleura\w*)\b",
    r"\bother(?= *(?:[,)]|$))",
    rf"\b(?:bilateral\w*|both|BOTH)\b.*\b(?:only|solely) (?:on|in|at) (?:the )?{_SIDE}\b",
    rf"\b(?:bilateral\w*|both|BOTH)\b.*\b{_SIDE} (?:side )?only\b",
    r"\b(?:reported|described|stated|noted|labell?ed|questioned) as\b",
    r"[<>]|(?<![\d./])\b0\b(?![\d./])",
    r"\b(?:no|not|never|without|nor|lack of|absence of|failure of)\b[^,;:]*"
    r"\b(?:resol\w+|cleared|clearing|disappear\w*|gone|absent|removed)\b",
    r"\b(?:absent|gone|clear|normal|negative|resolved|cleared) +(?:on|in|at|from|since) +(?:the +)?STUDY",
    r"\bnot(?: \w+)? (?:seen|identified|visuali[sz]ed|visible|present|evident|appreciated|noted|demonstrated|detected"
    r"|apparent) (?:on|in|with|by) (?:the |this |that |an? )?"
    r"(?:lateral|frontal|pa|ap|oblique|other|ct|(?:\w+ )?(?:views?|exam\w*|films?|images?|radiographs?))\b",
    r"\bno longer (?:\w+ )?(?:clear|normal|unremarkable|aerated|expanded)\b",
    r"\bresolves?\b",
    r"\b(?:cannot|can't|can not|unable|inability|against)\b",
    r"\bago\b|\blast (?:year|month|week)\b|\bin (?:19|20)\d\d\b|\b(?:years?|months?|weeks?) (?:earlier|before|back)\b",
    r"(?<!\bthe )(?<!\bon )\bright (?:at|above|behind|below|beneath|in|next|there|here|now|away|beside|under|over"
    r"|before|after|on|where|by|near|adjacent|along)\b",
    r"(?<!\bthe )(?<!\bon )\bleft (?:the|after|over|in|behind|unchanged|untreated|alone|at|with|from|by)\b",
    r"\b(?:has|have|had|is|are|was|were|remains?|been?|patient|pt|who|he|she|little|much) left(?= *(?:[,)]|$))",
    rf"\b{_SIDE} (?:of|to) (?!(?:the |an? |this )?(?:{_PICTURE}|{_VIEWER}|{_PATIENT}))(?:the )?\w+",
    r"\b(?:extend\w*|extension|spread\w*|moved|moving|migrat\w*|cross\w*|progress\w*|reach\w*) (?:\w+ ){0,2}?"
    rf"(?:in)?to(?:wards?)? (?:the )?{_SIDE}\b(?! (?:\w+ )?{_NOUN})",
    rf"\bfrom (?:the )?(?:\w+ )?{_PLACE}[^,;:]* to (?:the )?(?:\w+ )?{_PLACE}\b",
    rf"\b{_LESION} (?:\w+ )?(?:in|within|is|are|of|represents?|reflects?|due to) (?:the |an? )?(?:\w+ )?{_OUTER}\b",
    rf"\b{_SIDE}[ -]sided? (?:down|up)\b",
    r"\bno (?:\w+ )?(?:worsening|increasing|enlarging|larger|smaller|increased|decreased|improving)\b",
)
_RAW_PHRASES = tuple(re.compile(pattern) for pattern in _RAW)
_MASKED_PHRASES = tuple(re.compile(pattern) for pattern in _MASKED)

_OF_PICTURE = re.compile(
    rf"\b{_SIDE}(?:[ -]hand)?(?: (?:side|half|part|edge|portion|lung|base|apex))? (?:of|in|on) (?:the |this |an? )?"
    rf"{_PICTURE}\b|\b{_SIDE}(?:[ -]\w+){{1,2}} of (?:the |this |an? )?{_PICTURE}\b|\b{_SIDE},? \(?(?:image|picture)\b"
    rf"|\b(?:{_PICTURE}|{_VIEWER})(?:['’]?s)?[ -]{_SIDE}\b"
    rf"|\b(?:in|on) (?:the |this )?{_PICTURE},? (?:on|at|to) the {_SIDE}\b"
)
# words that speak of who looks at the picture, wherever they stand
_OF_VIEWER = re.compile(
    rf"\b(?:picture|screen|frame|photo\w*|{_VIEWER})s?\b|\byour {_SIDE}\b|\bas (?:you|one|viewed)\b"
)
_OF_PATIENT = re.compile(
    rf"\b{_PATIENT}(?:['’]?s)?[ -](?:own |true |anatomic\w* )?{_SIDE}\b|\b(?:his|her|their) (?:own )?{_SIDE}\b"
    rf"|\b{_SIDE}(?: \w+){{0,3}}? of (?:the |this )?{_PATIENT}\b|\banatomic\w* {_SIDE}\b|\b{_SIDE} anatomic\w*"
)
_ANY_SIDE = re.compile(rf"\b(?:{_SIDE}|[lr]|[lr][uml]l|lingula\w*)\b")


def raw(text: str) -> list[str]:
    """The doubtful phrases of lower-case text as it was written."""
    return [match.group().strip() for pattern in _RAW_PHRASES if (match := pattern.search(text))]


def masked(text: str) -> list[str]:
    """The doubtful phrases of text whose first phrases :func:`.phrases.mask` has replaced."""
    return [" ".join(match.group().split()) for pattern in _MASKED_PHRASES if (match := pattern.search(text))]


def other_sides(sentence: str, laterality: str) -> tuple[str, ...]:
    """The words by which a sentence says that its sides are not those of ``laterality``, or none."""
    text = sentence.lower()
    if laterality == "image":
        found = _OF_PATIENT.search(text)
    else:
        found = _OF_PICTURE.search(text) or (_OF_VIEWER.search(text) if _ANY_SIDE.search(text) else None)
    if found is None:
        return ()
    whose = "patient" if laterality == "image" else "picture"
    return found.group(), f"(the {whose}'s sides, but laterality is {laterality!r})"
