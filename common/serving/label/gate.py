"""What stands before MONAI Label's web application: every request that is refused is refused here."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from common.errors import UserError, user_error
from common.serving.label.requests import (
    ANY,
    NotThere,
    Unavailable,
    check_id,
    check_request,
    check_tag,
    check_training,
    check_values,
)

_CHECKED = ("/infer", "/batch", "/train", "/scoring", "/activelearning")
_FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
_JSON = ("params", "info", "wsi")  # fields of MONAI Label's forms
_IDS = ("image", "id", "label", "session_id")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_LARGEST = 2**29  # bytes of a request: a mask of a series, not a disk
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]+")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(:\d{1,5})?")
_LABELS = (".nii", ".nii.gz", ".nrrd", ".png", ".bin")  # of files with labels; the last is OHIF's
_FALSE = ("", "false", "0", "no", "off", "f", "n")
# MONAI Label's faults of the server that are the request's: how they begin, and the line instead
_HTTP = {
    "Neither Image nor File": "image: none is given; write the id of one into the address, ?image=ID, or send a file",
    "DICOM SEG format is not": "output: dicom_seg is of studies behind a DICOMweb address; ask for image",
    "Parameters for DICOM SEG": 'label_info: dicom_seg needs it; write [{"name": "lesion", "model_name": "MODEL"}]',
}
_NOT_THERE = ("INVALID_INPUT", "APP_INIT_ERROR")  # in answers to requests: no such model, method or strategy
_WHOLE_SLIDES = re.compile(r"/infer/wsi(_v2)?(/|$)")


def refused(line: object, status: int = 422) -> Response:
    """The answer to a fault of the request: one line."""
    return JSONResponse({"detail": _CONTROL.sub(" ", str(line))}, status_code=status)


def answer_to(error: Any) -> Response | None:
    """The answer to an exception of MONAI Label: of a fault of the user one line; None of every other."""
    if (found := user_error(error)) is not None:
        return refused(found, 404 if isinstance(found, NotThere) else 503 if isinstance(found, Unavailable) else 422)
    kind = str(getattr(getattr(error, "error", None), "value", ""))
    if kind in _NOT_THERE or type(error).__name__ in ("ImageNotFoundException", "LabelNotFoundException"):
        # MONAI Label's own line may hold the request
        return refused(str(error.msg).split(";")[0].split("\n")[0][:200], 404)
    if isinstance(error, AssertionError) and "nothing to include" in str(error):
        return refused("labels: there is none yet; submit one first", 404)
    return None


def answer_to_http(error: HTTPException) -> Response:
    """The answer to what MONAI Label answers itself: its line, and the request's fault is no fault of the server."""
    detail = str(error.detail)
    for start, line in _HTTP.items():
        if detail.startswith(start):
            return refused(line)
    answer = refused(detail.split("\n")[0][:200], error.status_code)
    answer.headers.update(error.headers or {})
    return answer


def answer_to_types(error: Any) -> Response:
    """The answer to a request whose parts are of another kind than MONAI Label's endpoints say: one line, no value."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
    return refused(f"{place}: {first['msg']}; see /docs")


class Gate(BaseHTTPMiddleware):
    """Refuse what :mod:`.requests` refuses before any of MONAI Label sees it.

    Args:
        app: what answers.
        hosts: names and addresses by which this server may be asked, beside those of loopback.
    """

    def __init__(self, app: Any, hosts: Collection[str] = ()) -> None:
        super().__init__(app)
        self.hosts = frozenset({*LOOPBACK, *(host.lower().rstrip(".") for host in hosts)})

    async def dispatch(self, request: Request, call_next: Any) -> Response:
        """Check the address of every request, and the values of those that bring any."""
        # of the request line itself: request.url is put together with what the client calls its host
        path = request.scope["path"]
        if not self._known(request.headers.get("host", "")):
            return refused("host: the server does not go by this name; start it with --allow-host NAME", 403)
        if _foreign(request):
            return refused("origin: a page of another address asks; open the viewer at the server's own", 403)
        if _WHOLE_SLIDES.match(path):
            return refused("there is no inference of whole slides here; ask /infer/MODEL", 404)
        if request.method in ("PUT", "DELETE") and path.startswith("/model"):
            return refused("model: weights come and go with the bundle's folder alone, not by requests", 405)
        try:
            if ".." in path.split("/") or "\0" in path:
                raise UserError("address: holds '..' or a control character; write it out")
            if answer := _too_large(request):
                return answer
            _check_query(request)
            if request.method == "POST" and path.startswith(_CHECKED):
                await _check_post(request, path)
            elif request.method == "PUT" and _kind(request) in _FORMS:
                for value in await _fields(request):
                    check_values(value)
                if path.startswith("/session") and request.query_params.get("uncompress", "").lower() not in _FALSE:
                    raise UserError("uncompress: archives are not unpacked here; send the image itself")
        except UserError as error:
            return answer_to(error) or refused(error)
        except ClientDisconnect:
            return refused("body: was broken off; send it again", 400)
        return await call_next(request)

    def _known(self, host: str) -> bool:
        """Whether a request is to this server: a page that has its own name lead here (DNS rebinding) is not."""
        if not (match := _HOST.fullmatch(host)):
            return False
        name = match[1].strip("[]").lower().rstrip(".")
        if name in self.hosts:
            return True
        try:
            return ANY in self.hosts and bool(ipaddress.ip_address(name))
        except ValueError:
            return False


def _too_large(request: Request) -> Response | None:
    """The refusal of a request that says no length, or one that no image or mask has."""
    if request.method not in ("POST", "PUT"):
        return None
    if "chunked" in request.headers.get("transfer-encoding", "").lower():
        return refused("content-length: is not said; send the request whole, not in chunks", 411)
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > _LARGEST:
        return refused(f"content-length: is more than {_LARGEST >> 20} MiB; send one image, or one mask", 413)
    return None


def _foreign(request: Request) -> bool:
    """Whether a browser says that a page of another address sends it; MONAI Label itself lets every page ask."""
    origin = request.headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != request.headers.get("host")


def _check_query(request: Request) -> None:
    for key, value in request.query_params.multi_items():
        if key == "tag":
            check_tag(key, value)
        elif key in _IDS and value:
            check_id(key, value)
            # MONAI Label would read that file, not the image by that name
            if key == "image" and Path(value).exists():
                raise NotThere("image: no such image; write an id that /datastore lists")


async def _check_post(request: Request, path: str) -> None:
    found = await _fields(request) if _kind(request) in _FORMS else [_parsed("params", await request.body())]
    for params in found:
        check_request(params)
        if path.startswith("/train"):
            # of all models at once, parameters stand below the model's name
            for one in [params, *(value for value in params.values() if isinstance(value, dict))]:
                check_training(one)


def _kind(request: Request) -> str:
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


async def _fields(request: Request) -> list[Mapping[str, Any]]:
    """What stands in the fields of a form that MONAI Label reads as JSON."""
    # the form is read from the body that is kept, so that MONAI Label finds it, too
    await request.body()
    try:
        form = await request.form()
    except (HTTPException, MultiPartException, ValueError, KeyError) as error:
        raise UserError("form: cannot be read; send multipart/form-data with the field params") from error
    found = []
    for key, value in form.multi_items():
        if isinstance(value, UploadFile) and value.filename:
            _check_filename(f"{key}: its filename", value.filename, request)
            if key == "label" and request.scope["path"].startswith("/infer"):
                raise UserError("label: no model here starts from a mask; leave it out")
            if key == "label" and not value.filename.lower().endswith(_LABELS):
                raise UserError(f"label: is no file that is read here; send one of {', '.join(_LABELS)}")
        if key in _JSON:
            found.append(_parsed(key, await value.read() if isinstance(value, UploadFile) else value))
            if isinstance(value, UploadFile):
                await value.seek(0)
    return found


def _check_filename(key: str, name: str, request: Request) -> None:
    """Refuse a name that leads elsewhere; the folders that 3D Slicer's client writes before its own lead nowhere."""
    check_id(key, re.split(r"[/\\]", name)[-1])
    if _CONTROL.search(name):
        raise UserError(f"{key}: holds a control character; write its name alone")
    # where no id is given, the name becomes one, on a system to which a backslash is no folder
    if "\\" in name and request.scope["path"].startswith("/datastore") and not request.query_params.get("image"):
        raise UserError(f"{key}: holds a folder; write its name alone, or ?image=ID")


def _parsed(key: str, text: str | bytes) -> dict[str, Any]:
    try:
        value = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError) as error:
        raise UserError(f'{key}: is no JSON; write {{"text_prompt": "...", "laterality": "patient"}}') from error
    if value is not None and not isinstance(value, dict):
        raise UserError(f'{key}: is no object; write {{"text_prompt": "...", "laterality": "patient"}}')
    return value or {}
