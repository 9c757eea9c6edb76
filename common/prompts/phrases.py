"""Phrases of chest reports that turn the meaning of the words beside them, replaced by marks in capitals.

``mark(text)`` takes lower-case text, so that no word of it can be taken for a mark.

=========  ==========================================================================================
BOTH       both sides ("left greater than right"); EITHER before it: one of them ("left or right")
RESET      ends a denial ("except for")
STUDY      the study compared with ("prior exam"), or the patient's history as a reason
HYP        what follows is asked for, not seen ("rule out"); POSTHYP: what precedes ("cannot be excluded")
NEG        what follows is denied ("no", "free of", "resolution of"); POSTNEG: what precedes ("has resolved")
NOT        the rest of the stretch is denied
PERSIST    it goes on ("no change in")
PARTLY     it is partly gone or hardly there ("near-complete resolution", "unlikely")
HIST       what follows is past ("history of"); PREV: unless it persists ("previously seen")
ORGAN      another organ, with its side and level ("right atrium", "upper abdomen")
NORMAL     nothing is wrong ("clear", "within normal limits")
ARTEFACT   what is seen is no lesion ("nipple shadow", "overlying breast tissue")
=========  ==========================================================================================

``mask(text)`` replaces the first of them only, up to PERSIST: in what it leaves :mod:`.doubts` looks for doubts.
"""

from __future__ import annotations

import re

_SIDE = r"(?:left|right)(?:[ -]sided?)?"
_MORE = (
    r"(?:greater|more|larger|worse|less|smaller|bigger|most|marked|prominent|pronounced|severe|extensive)"
    r"(?: \w+)?"
)
_SEEN = r"(?:seen|identified|visuali[sz]ed|visible|present|evident|appreciated|noted|demonstrated|detected|apparent)"
_STUDY = (
    r"(?:exam\w*|stud(?:y|ies)|radiographs?|radiography|films?|scans?|ct|imaging|images?|comparisons?|x-?rays?"
    r"|xxxx|date|reports?|views?|one)"
)
_ORGAN = (
    r"(?:ventric\w+|atri\w+|hearts?|cardiac|cardiophrenic|subclavian|jugular|innominate|brachiocephalic|axill\w+"
    r"|ij|svc|picc|port|mediport|pacemakers?|pacer|icd|aicd|generator|catheters?|lines?|tubes?|stents?|leads?"
    r"|carotid|clavic\w+|humer\w+|scapul\w+|shoulders?|ribs?|arms?|breasts?|mastectomy|hips?|knees?|kidneys?"
    r"|renal|hemidiaphragms?|diaphragms?|mainstem|paraspinal|paratracheal|quadrants?|extremit\w+|abdom\w+"
    r"|thoracic|lumbar|cervical|spine|vertebra\w*|back|neck|mediastin\w+|esophag\w+|trachea\w*|airways?|gi"
    r"|glenohumeral|acromioclavicular|joints?|sternum|convex\w*|scoliosis|dextroscoliosis|levoscoliosis|arch"
    r"|aort\w+|lobectomy|thoracotomy|nipples?|normal size)"
)
_PLACE_OF_ORGAN = r"(?:left|right|bilateral|both|upper|lower|mid|middle)"
_NOUN_NEXT = r"(?= (?:lung|lobe|upper|mid|lower|base|basal|basilar|ap|hil|perihil|chest|hemithor|xxxx|costo))"
_MOVED = r"(?:displac\w*|shift\w*|deviat\w*|rotat\w*|push\w*|pull\w*)"
_MOVABLE = (
    r"(?:heart|cardi\w+|mediastin\w+|trachea\w*|carina\w*|airways?|esophagus|midline|patient|structures?|silhouette)"
)
_NO_PLACE = r"(?! (?:lung|lobe|upper|lower|mid|base|basal|basilar|ap(?:ex|ical)|hil|perihilar|pleural))"
_UNRESOLVED = r"(?:resolv\w*|resolution|clearing|cleared|disappear\w*|gone)"
_DEGREE = r"(?:yet|been|interval|further|any|evidence of|signs? of|definite|complete|significant|have|has|\w+ly)"

_EARLY = (
    # sides compared
    (rf"\b{_SIDE} *[<>]+ *{_SIDE}\b", "BOTH"),
    (rf"\b{_SIDE},? (?:side )?(?:is )?(?:\w+ )?{_MORE} than (?:on )?(?:the )?{_SIDE}\b", "BOTH"),
    (
        rf"\b{_MORE} (?:on |in |at )?(?:the )?{_SIDE},? (?:side )?(?:\w+ )?than (?:on |in |at )?(?:the )?{_SIDE}\b",
        "BOTH",
    ),
    (rf"(?<!\bon the )(?<!\bon )(?<!\bto the )\b{_SIDE} and (?:the )?{_SIDE}\b{_NOUN_NEXT}", "BOTH"),
    (rf"(?<!\bon the )(?<!\bon )(?<!\bto the )\b{_SIDE} or (?:the )?{_SIDE}\b{_NOUN_NEXT}", "EITHER BOTH"),
    # where the heart is pushed to, and how the patient lies: no places of lesions
    (
        rf"\b{_MOVED}(?: of)?(?: (?:the |slightly |mildly |markedly )*{_MOVABLE}(?: {_MOVABLE})?)?(?: \w+ly)?"
        rf" (?:in|on)?to(?:wards?)? (?:the )?{_SIDE}\b(?: (?:side|hemithorax|chest|hemichest))?{_NO_PLACE}",
        "ORGAN",
    ),
    (rf"\b{_MOVED}(?: \w+ly)? (?:{_SIDE}|(?:left|right)wards?)\b{_NO_PLACE}", "ORGAN"),
    (rf"\b(?:{_SIDE}|(?:left|right)wards?)(?: {_MOVABLE})? (?:shift|deviation|displacement|rotation)\b", "ORGAN"),
    (
        rf"\b{_SIDE} (?:(?:lateral|anterior|posterior) )?(?:oblique|decubitus|lateral)"
        r" (?:views?|projections?|films?|images?|radiographs?|decubitus|positions?)\b"
        rf"|\b{_SIDE} (?:anterior |posterior )?(?:oblique|decubitus)\b"
        rf"|\bon (?:the )?{_SIDE} lateral\b(?= *(?:[,)]|$))",
        "STUDY",
    ),
    (r"\b(?:other than|aside from|apart from|except(?: for)?|with (?:the )?exception of)\b", "RESET"),
    (r"\b(?:as well as|in addition to)\b", "and"),
    # the study that one compares with
    (rf"\b(?:prior|previous|earlier|outside|old)(?: \w+){{0,2}}? {_STUDY}\b", "STUDY"),
    (
        r"\b(?:since|from|than|to|with|on) (?:the )?(?:on )?(?:prior|previous|previously)\b(?= *(?:[,.;)]|$|and\b))",
        "on STUDY",
    ),
    (r"(?:\bSTUDY +|\b(?:since|from) )(?:\w+ ){0,2}(?:days?|weeks?|months?|years?) ago\b", "STUDY"),
    (r"\b(?:the|patient'?s?|given|clinical|this) history\b(?! of)", "STUDY"),
    # hypotheses
    (
        r"\b(?:evaluat\w+|assess\w*|check\w*|look\w*|screen\w*|work-?up|concern|suspicion|risk) (?:for|of)\b",
        "HYP",
    ),
    (
        r"\b(?:(?:not|cannot|can't|never)(?: \w+){0,3}|(?:should|must|to|needs? to) (?:\w+ )?be)"
        r" (?:excluded|ruled out)\b",
        "POSTHYP",
    ),
    # "ruled out" denies what stands before it, or what follows if it has a subject of its own
    (
        r"\b(?:ruled out|excluded)\b(?= *(?:[,;:)(]|$|(?:by|on|with|at|and|or|but|via|per|today|now|clinically)\b))",
        "POSTNEG",
    ),
    (r"(?:(?<=[,(:] )|^\s*|\b(?:ct|mri|exam\w*|imaging|stud(?:y|ies)|to|have|has|we) )ruled out\b", "HYP"),
    (r"\b(?:rules? out|ruling out|r/o)\b(?! by)|\bif\b", "HYP"),
    (r"\b(?:cannot|can not|difficult to|to) (?:\w+ )?exclude\b", "HYP"),
    # what goes on is not denied
    (r"\b(?:no|without|not)(?: \w+){0,2} (?:changed?|changes?|progression)\b(?: in| of)?", "PERSIST"),
    (
        r"\b(?:no|without|nor)(?: (?:evidence|signs?) of)?(?: \w+)? (?:increase|decrease|enlargement|worsening"
        r"|improvement|growth|reduction|difference|deterioration) (?:in|of)\b",
        "PERSIST",
    ),
    (
        r"\b(?:not|no longer) (?:\w+ )?(?:increas|decreas|improv|enlarg|worsen|grow|progress)\w*\b",
        "PERSIST",
    ),
    (
        rf"\b(?:not?|never|without|nor|lack of|absence of|failure of)(?: {_DEGREE})* {_UNRESOLVED}\b(?: of| in)?"
        rf"|\bnon[ -]resolving\b|\byet to (?:\w+ )?{_UNRESOLVED}\b",
        "PERSIST",
    ),
    # what is new was not seen before
    (
        rf"\b(?:not|never) (?:\w+ )?(?:previously|formerly|initially|originally) (?:\w+ )?{_SEEN}\b"
        rf"|\b(?:previously|formerly|initially|originally) (?:not|never) {_SEEN}\b"
        rf"|\b(?:not|never) (?:\w+ )?{_SEEN} +(?:previously|before|earlier|(?:on|in|at) +(?:the +)?STUDY)\b",
        "PERSIST",
    ),
)
_TABLE = (
    # denials
    (
        r"\b(?:near|nearly|almost|partial|partially|partly|incomplete|incompletely|mostly|largely|mainly|significantly"
        r"|substantially|markedly|considerably|essentially|somewhat|slightly|mildly|some)[ -](?:complete |completely )?"
        r"(?:resol\w+|clear(?:ed|ing))\b|\b(?:near|nearly|almost)[ -](?:complete )?clear\b"
        r"|\b(?:resolved|cleared|resolution|clearing) (?:\w+ )?(?:somewhat|partially|partly|mostly|largely|slightly"
        r"|incompletely|for the most part|in part)\b|\bunlikely\b|\bless likely\b",
        "PARTLY",
    ),
    (rf"\b(?:not|no longer|never)(?: well| \w+ly| been)?[ -]+{_SEEN}\b|\bno more\b(?= *(?:[,;:)]|$))", "POSTNEG"),
    (rf"\b(?:cannot|can not|can't|could not) (?:\w+ )?be (?:\w+ )?{_SEEN}\b", "POSTNEG"),
    (
        r"\b(?:negative for|free (?:of|from)|clear of|devoid of|(?:absence|lack|resolution|clearing|removal) of)\b",
        "NEG",
    ),
    (r"\b(?:no evidence (?:of|for)|no longer|without|w/o|no|nor|neither|never|none|denies)\b", "NEG"),
    (r"\b(?:resolved|cleared|resolution|absent|gone|disappeared|removed|negative)\b", "POSTNEG"),
    (r"\bnot\b", "NOT"),
    # the past
    (r"\b(?:status[ -]post|s/p|history(?: of)?|hx(?: of)?|h/o|post[ -]op\w*)\b", "HIST"),
    (
        rf"\b(?:previously|formerly)[ -](?:\w+ )?(?:{_SEEN}|described|reported|known|mentioned|questioned)\b",
        "PREV",
    ),
    (r"\b(?:previously|prior|previous|formerly)\b", "PREV"),
    # other organs with their sides and levels
    (rf"\b(?:{_PLACE_OF_ORGAN}[ -]+(?:sided? )?)+(?:(?:chest|internal|\d\w*|\w+(?:ior|al)) )?{_ORGAN}\b", "ORGAN"),
    (r"\b(?:to|towards?) the (?:left|right)\b(?= (?:of|as|and|,)|[.;]|$)", "ORGAN"),
    (r"\b(?:bone|bony) (?:mineral )?densit\w+\b|\bsoft tissues?\b|\bmass effect\b", "ORGAN"),
    # nothing wrong
    (r"\b(?:within|upper|lower|top) (?:normal )?limits?\b|\btop[ -]normal\b", "NORMAL"),
    (r"\bwell[ -]+(?:aerated|expanded|inflated)\b", "NORMAL"),
    (r"\b(?:clear|normal|normally|unremarkable|intact|sharp|preserved|aerated|expanded)\b", "NORMAL"),
    # no lesion
    (
        r"\b(?:correspond\w*|represent\w*|reflect\w*|due to|consistent with|compatible with)"
        r"(?: [\w']+){0,4}? hernias?\b",
        "ARTEFACT",
    ),
    (
        r"\b(?:summation|nipple|art[ei]fact\w*|breast tissue|fat|superimpos\w+"
        r" (?:of|\w+ (?:and|structure\w*|shadow\w*)))\b",
        "ARTEFACT",
    ),
)
_MASKS = tuple((re.compile(pattern), f" {word} ") for pattern, word in _EARLY)
_PHRASES = tuple((re.compile(pattern), f" {word} ") for pattern, word in _TABLE)
_PAST_STUDY = re.compile(r"\s*(?:on|in) (?:an? |the )?(?:prior|previous|earlier)\b")


def mask(text: str) -> str:
    """Lower-case text with its first phrases, up to PERSIST, replaced by their marks."""
    for pattern, word in _MASKS:
        text = pattern.sub(word, text)
    return text


def mark(text: str) -> str:
    """Lower-case text with its phrases replaced by their marks."""
    past = _PAST_STUDY.match(text)
    text = mask(text)
    for pattern, word in _PHRASES:
        text = pattern.sub(word, text)
    return f"HIST {text}" if past else text
