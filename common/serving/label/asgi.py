"""MONAI Label's web application with a gate before it, answers of one line, and the page of accepted words.

Imported by uvicorn in a process that :func:`common.serving.label.environment.prepare` has prepared.
"""

from __future__ import annotations

import json
from typing import Any

from monailabel.app import app
from monailabel.endpoints import infer
from starlette.datastructures import UploadFile
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from common.errors import UserError, user_error
from common.serving.label.convert import nifti_to_dicom_seg
from common.serving.label.help_page import page
from common.serving.label.requests import check_request, check_training

infer.nifti_to_dicom_seg = nifti_to_dicom_seg
_CHECKED = ("/infer", "/batch", "/train", "/scoring", "/activelearning")


def refused(line: object) -> Response:
    """The answer to a fault of the request: 422 and one line."""
    return JSONResponse({"detail": str(line)}, status_code=422)


class Gate(BaseHTTPMiddleware):
    """Refuse what :func:`check_request` refuses before any of MONAI Label sees it."""

    async def dispatch(self, request: Request, call_next: Any) -> Response:
        """Check the parameters of a POST, which are JSON or a form's field ``params``."""
        if request.method == "POST" and request.url.path.startswith(_CHECKED):
            try:
                params = await _params(request)
                if request.url.path.startswith("/train"):
                    # of all models at once, parameters stand below the model's name
                    for one in [params, *(value for value in params.values() if isinstance(value, dict))]:
                        check_training(one)
                else:
                    check_request(params)
            except UserError as error:
                return refused(error)
        return await call_next(request)


async def _params(request: Request) -> dict[str, Any]:
    body = await request.body()
    text: Any = body
    if "form" in request.headers.get("content-type", ""):
        # read from the body that is kept, so that MONAI Label finds it, too
        text = (await request.form()).get("params") or ""
        if isinstance(text, UploadFile):
            text = await text.read()
    try:
        params = json.loads(text) if text.strip() else {}
    except ValueError as error:
        raise UserError('params: is no JSON; write {"text_prompt": "...", "laterality": "patient"}') from error
    params = {} if params is None else params
    check_request(params)
    return params


async def _fault(_: Request, error: Exception) -> Response:
    """A fault of the user is the answer, whatever MONAI wrapped it in; every other is raised again."""
    found = user_error(error)
    if found is None:
        raise error
    return refused(found)


async def _help() -> Response:
    return HTMLResponse(page())


app.add_middleware(Gate)
for kind in (UserError, RuntimeError):
    app.add_exception_handler(kind, _fault)
app.add_api_route("/help", _help, include_in_schema=False)
