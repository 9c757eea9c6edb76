"""What may stand in a request, and what of it no log may hold."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any

from common.errors import UserError, user_error

SENTENCE, LATERALITY, THRESHOLD = "text_prompt", "laterality", "threshold"
CHOOSE = "choose"
ANY = "*"  # among the hosts of a server: every address of its machine, written as numbers
LONGEST = 5000  # characters of a sentence: more than a report has
# of answers with a mask: what is written and can be read back
EXTENSIONS = (".nii.gz", ".nii", ".nrrd", ".png")
# what an inference looks at; of the rest, MONAI Label would put some into places of its own
TAKEN = (
    "model", "image", "device", "logging", "description", SENTENCE, LATERALITY, THRESHOLD, "result_extension",
    "result_compress", "label_info", "save_label", "label_tag", "session",
)  # fmt: skip
_DEVICE = re.compile(r"[A-Za-z][\w .:()/-]{0,99}")
_TAG = re.compile(r"\w[\w-]{0,63}")
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_FREE = (SENTENCE, "label_info")  # the names that annotators give are written into objects, never parsed


class NotThere(UserError):
    """What is asked for is not there: answered with 404."""


class Unavailable(UserError):
    """The server cannot do it now, through no fault of the request: answered with 503, and nothing goes on."""


def check_request(params: Any) -> None:
    """Refuse what must not reach MONAI Label, which writes some values into a bundle's configuration.

    Args:
        params: of an inference, batch inference, scoring or training.

    Raises:
        UserError: the line to answer; it never repeats a sentence.
    """
    check_values(params)
    if "image" in params:
        raise UserError("image: is no parameter; write it into the address, ?image=ID")
    device = _first(params.get("device"))
    if device and not (isinstance(device, str) and _DEVICE.fullmatch(device)):
        raise UserError("device: is none; write one that /info lists, such as cpu")
    if params.get("model_filename", "model.pt") not in ("model.pt", ["model.pt"]):
        raise UserError("model_filename: only model.pt is served; leave it out")
    level = params.get("logging", "INFO")
    if not isinstance(level, str) or level.upper() not in _LEVELS:
        raise UserError(f"logging: is no level; write one of {', '.join(_LEVELS)}")
    extension = params.get("result_extension")
    if extension not in (None, "", *EXTENSIONS):
        raise UserError(f"result_extension: is not written here; write one of {', '.join(EXTENSIONS)}")
    if not isinstance(params.get("result_compress", False), bool):
        raise UserError("result_compress: is neither true nor false; write one of them, or leave it out")
    threshold_of(params)
    sentence_of(params)


def check_values(params: Any) -> None:
    """Refuse values that may become code or lie elsewhere: of everything that is stored or computed with.

    Raises:
        UserError: the line to answer; it never repeats a sentence.
    """
    if not isinstance(params, Mapping):
        raise UserError('params: is no object; write {"text_prompt": "...", "laterality": "patient"}')
    for key, text in _texts(params):
        if re.search(r"[\ud800-\udfff]", text):
            raise UserError(f"{_shown(key)}: holds half a character (a lone surrogate); write it as UTF-8")
    # only at the top these are text that is never parsed as anything else
    free = {key: value for key, value in params.items() if key not in _FREE}
    for key, text in [*((str(key), str(key)) for key in params), *_texts(free)]:
        if text.lstrip()[:1] in ("$", "%", "@"):
            raise UserError(f"{_shown(key)}: a value that starts with $, % or @ is not taken; write the value itself")
    if "label_tag" in params:
        check_tag("label_tag", params["label_tag"])


def check_tag(key: str, tag: Any) -> None:
    """Refuse a tag, which is the name of a folder, that leads elsewhere.

    Raises:
        UserError: it is no word.
    """
    if not isinstance(tag, str) or not _TAG.fullmatch(tag):
        raise UserError(f"{key}: is no tag; write one word, such as final or original")


def check_id(key: str, value: Any) -> None:
    """Refuse an image's id or a file's name that leads elsewhere.

    Raises:
        UserError: it is no text, or holds a folder.
    """
    if (
        not isinstance(value, str)
        or len(value.encode(errors="replace")) > 255  # of a file's name
        or not value
        or value.startswith(".")
        or re.search(r"[/\\\x00-\x1f\x7f]|\.\.", value)
    ):
        raise UserError(f"{key}: names no image; write an id that /datastore lists, without folders")


def check_training(params: Any) -> None:
    """As :func:`check_request`, of a training.

    Raises:
        UserError: the line to answer.
    """
    check_request(params)
    epochs, part = params.get("max_epochs", 1), params.get("val_split", 0.2)
    if not isinstance(epochs, int) or isinstance(epochs, bool) or epochs < 1:
        raise UserError("max_epochs: is no number of epochs; write 1 or more")
    if not isinstance(part, int | float) or isinstance(part, bool) or not 0 < part < 1:
        raise UserError("val_split: is no part of the labels; write a number between 0 and 1, such as 0.2")
    if params.get("pretrained", True) is not True:
        raise UserError("pretrained: only fine-tuning of the current model is served; leave it out, or write true")
    for key in ("force_multi_gpu", "model_filename"):
        if key in params:
            raise UserError(f"{key}: is not served; leave it out")
    if params.get("run_id", "run") != "run":
        raise UserError("run_id: only the bundle's own training is served; leave it out")
    if not re.fullmatch(r"all|\d+(,\d+)*", str(params.get("gpus", "all"))):
        raise UserError("gpus: are no numbers; write all, or numbers with commas between")
    tracking = _first(params.get("tracking"))
    if tracking and str(tracking).lower() != "none":
        raise UserError("tracking: is not served; leave it out")


def sentence_of(params: Mapping[str, Any]) -> tuple[str, str] | None:
    """The sentence of a request and whose left it means; None without a sentence.

    Raises:
        UserError: the sentence is no text, too long, or nobody says whose left it means.
    """
    sentence = params.get(SENTENCE)
    if sentence is None:
        return None
    if not isinstance(sentence, str):
        raise UserError(f"{SENTENCE}: is no text; write one sentence in quotes")
    if not sentence.strip():
        return None
    if len(sentence) > LONGEST:
        raise UserError(f"{SENTENCE}: has {len(sentence)} characters; write at most {LONGEST}")
    laterality = params.get(LATERALITY)
    if laterality not in ("patient", "image"):
        raise UserError(
            f"{LATERALITY}: whose left does the sentence mean? Choose 'patient' (clinicians) or 'image' (left of the "
            "picture)"
        )
    return sentence, laterality


def threshold_of(params: Mapping[str, Any]) -> float | None:
    """The threshold of a request; None without one.

    Raises:
        UserError: it is no probability.
    """
    value = params.get(THRESHOLD)
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise UserError(f"{THRESHOLD}: is no probability; write a number between 0 and 1, such as 0.5")
    return float(value)


def _first(value: Any) -> Any:
    """A value, or the first of the list that ``/info`` offers and some clients send back whole."""
    return (value[0] if value else None) if isinstance(value, list) else value


def _texts(value: Any, key: str = "params") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield str(name), str(name)
            yield from _texts(item, str(name))
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, key)


def _shown(key: str) -> str:
    return ascii(key[:40]) if not key.isidentifier() else key


# what was asked and answered, and whose picture it is, behind its key as Python or JSON writes a dictionary
_KEYS = "text_prompt|understood|refused|sides|zones|reasons|warnings|PatientID|PatientName|StudyDate"
_TEXT = r"""(?:\\"(?:\\\\\\"|\\\\|\\[^"\\]|[^"\\])*\\"|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_BEHIND_KEY = re.compile(rf"""(\\?["'](?:{_KEYS})\\?["']\s*:\s*)(?:{_TEXT}|\[\s*(?:{_TEXT}[\s,]*)*\])""", re.DOTALL)
# as MONAI Label prints what its transforms are given, a key a record
_DATA_KEY = re.compile(rf"(Data key: (?:asked|{_KEYS}) = ).*", re.DOTALL)
# its words, as the messages of this package quote them
_QUOTED = re.compile(
    r"(sentence not understood: ).*?(; write it like|; give it with|$)|(the sides of )'.*?'( cannot be swapped)"
)
_HIDDEN = "[sentence]"


def redact(text: str) -> str:
    """A line of a log without the sentences in it."""
    text = _BEHIND_KEY.sub(rf"\1{_HIDDEN}", text)
    text = _DATA_KEY.sub(rf"\1{_HIDDEN}", text)
    return _QUOTED.sub(lambda m: f"{m[1] or m[3]}{_HIDDEN}{m[2] or m[4] or ''}", text)


def hide_sentences() -> None:
    """No log record made from now on in this process holds a sentence, whoever makes it and wherever it goes."""
    make = logging.getLogRecordFactory()
    if getattr(make, "_hides_sentences", False):
        return

    def factory(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        try:
            text = record.getMessage()
        except (TypeError, ValueError, KeyError):  # arguments that do not fit, which logging would print
            text, record.args = str(record.msg), ()
        error = record.exc_info[1] if record.exc_info else None
        fault = user_error(error)
        if fault is not None:
            # the traceback would end with the line as it is
            text, record.exc_info = f"{text}: {fault}", None
        hidden = redact(text)
        if hidden != text or fault is not None:
            record.msg, record.args = hidden, ()
        return record

    factory._hides_sentences = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(factory)
