"""What stands before MONAI Label's web application: every request that is refused is refused here."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from common.errors import UserError, user_error
from common.serving.label.requests import check_id, check_request, check_tag, check_training, check_values

_CHECKED = ("/infer", "/batch", "/train", "/scoring", "/activelearning")
_FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
_JSON = ("params", "info", "wsi")  # fields of MONAI Label's forms
_IDS = ("image", "id", "label", "session_id")
_NOT_THERE = ("INVALID_INPUT", "APP_INIT_ERROR")  # in answers to requests: no such model, method or strategy
_WHOLE_SLIDES = re.compile(r"/infer/wsi(_v2)?(/|$)")


def refused(line: object, status: int = 422) -> Response:
    """The answer to a fault of the request: one line."""
    return JSONResponse({"detail": str(line)}, status_code=status)


def answer_to(error: Any) -> Response | None:
    """The answer to an exception of MONAI Label: of a fault of the user one line; None of every other."""
    if (found := user_error(error)) is not None:
        return refused(found)
    kind = str(getattr(getattr(error, "error", None), "value", ""))
    if kind in _NOT_THERE or type(error).__name__ in ("ImageNotFoundException", "LabelNotFoundException"):
        # MONAI Label's own line may hold the request
        return refused(str(error.msg).split(";")[0].split("\n")[0][:200], 404)
    return None


class Gate(BaseHTTPMiddleware):
    """Refuse what :mod:`.requests` refuses before any of MONAI Label sees it."""

    async def dispatch(self, request: Request, call_next: Any) -> Response:
        """Check the address of every request, and the values of those that bring any."""
        # of the request line itself: request.url is put together with what the client calls its host
        path = request.scope["path"]
        if _foreign(request):
            return refused("origin: a page of another address asks; open the viewer at the server's own", 403)
        if _WHOLE_SLIDES.match(path):
            return refused("there is no inference of whole slides here; ask /infer/MODEL", 404)
        if request.method in ("PUT", "DELETE") and path.startswith("/model"):
            return refused("model: weights come and go with the bundle's folder alone, not by requests", 405)
        try:
            if ".." in path.split("/"):
                raise UserError("address: holds '..'; write it out")
            _check_query(request)
            if request.method == "POST" and path.startswith(_CHECKED):
                await _check_post(request, path)
            elif request.method == "PUT" and _kind(request) in _FORMS:
                for value in await _fields(request):
                    check_values(value)
        except UserError as error:
            return refused(error)
        return await call_next(request)


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
                raise UserError("image: no such image; write an id that /datastore lists")


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
            check_id(f"{key}: its filename", value.filename)
        if key in _JSON:
            found.append(_parsed(key, await value.read() if isinstance(value, UploadFile) else value))
            if isinstance(value, UploadFile):
                await value.seek(0)
    return found


def _parsed(key: str, text: str | bytes) -> dict[str, Any]:
    try:
        value = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError) as error:
        raise UserError(f'{key}: is no JSON; write {{"text_prompt": "...", "laterality": "patient"}}') from error
    if value is not None and not isinstance(value, dict):
        raise UserError(f'{key}: is no object; write {{"text_prompt": "...", "laterality": "patient"}}')
    return value or {}
