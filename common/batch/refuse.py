"""Which images a bundle is not for, and why: modality, body part, view; and what ``--include`` lets through."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from common.errors import UserError
from common.images.sides import plane
from common.runtime.model import kind_of

from .header import Scan

# the words of --include, and what each lets through
WORDS = {
    "modality": "another modality than the bundle's",
    "body-part": "another part of the body than the bundle's",
    "lateral": "lateral views",
    "view": "oblique views and decubitus",
    "plane": "radiographs whose orientation is axial, CT that is not",
    "scout": "scouts, localisers and topograms",
    "animal": "animals",
    "duplicate": "CT slices whose SOPInstanceUID another file has",
}
# ways in which a body part is written; any of them as a part of a word
_WRITTEN = {
    "CHEST": ("CHEST", "THORAX", "TORAX", "LUNG", "PULMO"),
    "COLON": ("COLON", "RECT", "BOWEL", "INTESTIN"),
}
_NOT_SAID = re.compile(r"UNKNOWN|UNDEFINED|UNSPECIFIED|NOT SPECIFIED|OTHER|NONE|N A|NA|")
# parts of the body that a description may name
_OTHER_PART = re.compile(
    r"\b(HEAD|SKULL|BRAIN|FACE|SINUS(?:ES)?|ORBITS?|TEETH|TOOTH|DENTAL|MANDIBLE|NECK|(?:[CTL] ?)?SPINE|CERVICAL|LUMBAR|"
    r"ABDOMEN|ABDOMINAL|PELVIS|HIPS?|SACRUM|KNEES?|HANDS?|WRISTS?|FINGERS?|THUMB|FOOT|FEET|ANKLES?|HEEL|TOES?|ELBOWS?|"
    r"SHOULDERS?|CLAVICLE|SCAPULA|FEMUR|TIBIA|FIBULA|HUMERUS|FOREARM|EXTREMITY|BREASTS?|MAMMO\w*)\b"
)
_LATERAL = re.compile(r"\b([LR]L|[LR]?LAT|(?!BI|UNI)\w*LATERAL|LATERO\w*|PROFILE?)\b")
_OBLIQUE = re.compile(r"\b([LR][LR]D|DECUB\w*|[LR][LR]O|[LR][AP]O|OBL|OBLIQUE)\b")
# LL and RL mean other things in a description
_LATERAL_TOLD = re.compile(r"\b([LR]?LAT|LATERAL|SEITLICH|PROFIL)\b")
_FRONTAL = re.compile(r"\b(PA|AP|POSTERO ANTERIOR|ANTERO POSTERIOR|FRONTAL)\b")
_SCOUT = re.compile(r"\b(SCOUT|TOPOGRAM|SURVIEW|SCANOGRAM|LOCALI[SZ]ER)\b")
_ANIMAL = re.compile(r"\b(CANINE|FELINE|EQUINE|BOVINE|VETERIN\w*)\b")
# SOP classes without a picture (PS3.4 B.5), by the beginning of their UID; "." ends it
_STORAGE = "1.2.840.10008.5.1.4.1.1."
_NO_PICTURE = {
    "4.2": "a spectroscopy", "9": "a waveform", "11": "a presentation state", "30": "a parametric map",
    "66": "raw data, a registration or a segmentation", "67": "a mapping of values", "68": "a surface",
    "88": "a structured report", "104": "an encapsulated document", "481.2": "a radiotherapy dose",
    "481.3": "a radiotherapy structure set", "481.4": "a radiotherapy record", "481.5": "a radiotherapy plan",
    "481.8": "a radiotherapy plan",
}  # fmt: skip
# what files of a class are, where they give no modality
_MODALITIES = {
    "1": "CR", "1.1": "DX", "1.1.1": "DX", "1.2": "MG", "1.3": "IO", "2": "CT", "3.1": "US", "4": "MR", "6.1": "US",
    "12.1": "XA", "12.2": "RF", "20": "NM", "128": "PT",
}  # fmt: skip


@dataclass(frozen=True)
class Scope:
    """What a bundle is for, by its metadata.

    Attributes:
        modalities: DICOM's; empty for all.
        parts: of the body; empty for all.
        kind: a key of :data:`common.prompts.zones.TABLES`; ``""`` where nothing is judged.
    """

    modalities: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    kind: str = ""

    @classmethod
    def of(cls, metadata: Mapping[str, Any] | None) -> Scope:
        """Of a bundle's metadata; of None nothing is out of scope."""
        if metadata is None:
            return cls()
        return cls(_values(metadata["modality"]), _values(metadata["body_part"]), kind_of(metadata))


def check_words(include: frozenset[str]) -> None:
    """Refuse a word that ``--include`` does not know.

    Raises:
        UserError: there is one.
    """
    unknown = sorted(include - WORDS.keys())
    if unknown:
        raise UserError(f"--include {unknown[0]}: is not known; write {', '.join(WORDS)}")


def modality_of(scan: Scan) -> str:
    """The modality that a file gives, or that its class has; ``""`` if neither says."""
    return scan.header.modality or _MODALITIES.get(_class(scan), "")


def judge(scan: Scan, scope: Scope, include: frozenset[str]) -> tuple[str, str]:
    """Why an image is not to be segmented, and the reasons that ``include`` overrides; ``""`` for none.

    A reason that can be overridden ends with the option that does it.
    """
    fault = scan.fault or _no_picture(scan)
    if fault:
        return fault, ""
    found = list(_reasons(scan, scope))
    refused = next((f"{reason}; --include {word} segments it" for word, reason in found if word not in include), "")
    return refused, "; ".join(reason for word, reason in found if word in include)


def _values(text: str) -> tuple[str, ...]:
    return tuple(value.strip().upper() for value in text.split(",") if value.strip())


def _class(scan: Scan) -> str:
    uid = scan.header.sop_class
    return uid.removeprefix(_STORAGE) if uid.startswith(_STORAGE) else ""


def _no_picture(scan: Scan) -> str:
    name = _class(scan) + "."
    what = next((what for start, what in _NO_PICTURE.items() if name.startswith(start + ".")), "")
    return f"{what}, not an image; give the image it belongs to" if what else ""


def _reasons(scan: Scan, scope: Scope) -> Iterator[tuple[str, str]]:
    """Words of :data:`WORDS` and reasons, one line each."""
    modality = modality_of(scan)
    if modality and scope.modalities and modality not in scope.modalities:
        yield "modality", f"modality {modality}; the bundle is for {', '.join(scope.modalities)}"
    part = _other_part(scan, scope.parts)
    if part:
        yield "body-part", f"body part {part}; the bundle is for {', '.join(scope.parts)}"
    if scope.kind not in ("radiograph", "axial_ct"):
        return
    if scan.animal or any(_ANIMAL.search(_words(text)) for text in scan.texts):
        yield "animal", f"an animal by {scan.animal or 'its description'}"
    if "LOCALIZER" in scan.image_type or _SCOUT.search(_words(scan.texts[0])):
        yield "scout", "a scout or localiser"
    elif scope.kind == "axial_ct":
        shows = plane({"view": "", "orientation": scan.orientation})
        if shows not in ("", "axial"):
            yield "plane", f"a {'coronal' if shows == 'frontal' else 'sagittal'} CT image; the bundle is for axial ones"
    else:
        yield from _view(scan)


def _view(scan: Scan) -> Iterator[tuple[str, str]]:
    """What is no frontal radiograph: by the view it names, its orientation, its description."""
    view = _words(scan.header.view)
    shows = plane({"view": "", "orientation": scan.orientation})
    told = [_words(text) for text in scan.texts[:3]]
    if _OBLIQUE.search(view):
        yield "view", f"view {view}, not frontal"
    elif _LATERAL.search(view):
        yield "lateral", f"a lateral view ({view})"
    elif shows == "lateral":
        yield "lateral", f"a lateral view by its orientation {scan.orientation}"
    elif shows == "axial":
        yield "plane", f"axial by its orientation {scan.orientation}, not frontal"
    elif not view and any(_LATERAL_TOLD.search(text) for text in told) and not any(map(_FRONTAL.search, told)):
        yield "lateral", "a lateral view by its description"


def _other_part(scan: Scan, parts: tuple[str, ...]) -> str:
    """The part of the body that is none of ``parts``; ``""`` if it is, or if nothing says."""
    if not parts:
        return ""
    ways = [way for part in parts for way in _WRITTEN.get(part, (part,))]
    stated = _words(scan.header.body_part)
    if not _NOT_SAID.fullmatch(stated):
        return "" if any(way in stated for way in ways) else stated[:40]
    for text in map(_words, scan.texts):
        if any(way in text for way in ways):
            return ""
        named = _OTHER_PART.search(text)
        if named:
            return f"{named[1]} by its description"
    return ""


def _words(text: str) -> str:
    """Upper case, words with one space between."""
    return " ".join(re.findall(r"[^\W_]+", text.upper()))
