"""MONAI Label's web application with a gate before it, answers of one line, and the page of accepted words.

Imported by uvicorn in a process that :func:`common.serving.label.environment.prepare` has prepared.
"""

from __future__ import annotations

from typing import Any

from monailabel.app import app
from monailabel.endpoints import infer
from monailabel.interfaces.exception import MONAILabelException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from common.errors import UserError
from common.serving.label.convert import nifti_to_dicom_seg
from common.serving.label.gate import Gate, answer_to
from common.serving.label.help_page import page

infer.nifti_to_dicom_seg = nifti_to_dicom_seg


async def _fault(_: Request, error: Any) -> Response:
    """A fault of the user is the answer, whatever MONAI wrapped it in; every other is raised again."""
    if (answer := answer_to(error)) is None:
        raise error
    return answer


async def _help() -> Response:
    return HTMLResponse(page())


app.add_middleware(Gate)
for kind in (UserError, RuntimeError, MONAILabelException):
    app.add_exception_handler(kind, _fault)
app.add_api_route("/help", _help, include_in_schema=False)
