"""MONAI Label's web application with a gate before it, answers of one line, and the page of accepted words.

Imported by uvicorn in a process that :func:`common.serving.label.environment.prepare` has prepared.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi.exceptions import RequestValidationError
from monailabel.app import app
from monailabel.endpoints import infer
from monailabel.interfaces.exception import MONAILabelException
from monailabel.utils.async_tasks.utils import background_executors, background_processes, stop_background_task
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from common.errors import UserError
from common.serving.label.convert import nifti_to_dicom_seg
from common.serving.label.gate import Gate, answer_to, answer_to_http, answer_to_types
from common.serving.label.help_page import page
from common.serving.label.launch import HOSTS
from common.serving.label.scratch import Scratch, clear

clear()
infer.nifti_to_dicom_seg = nifti_to_dicom_seg


async def _fault(_: Request, error: Any) -> Response:
    """A fault of the user is the answer, whatever MONAI wrapped it in; every other is raised again."""
    if (answer := answer_to(error)) is None:
        raise error
    return answer


async def _http(_: Request, error: Any) -> Response:
    return answer_to_http(error)


async def _types(_: Request, error: Any) -> Response:
    return answer_to_types(error)


async def _help() -> Response:
    return HTMLResponse(page())


def _ending_tasks(lifespan: Any) -> Any:
    """The server's life; what runs in other processes for it ends with it, and is not waited for."""

    @asynccontextmanager
    async def life(served: Any) -> AsyncIterator[Any]:
        async with lifespan(served) as state:
            yield state
        for method, executor in background_executors.items():
            executor.shutdown(wait=False, cancel_futures=True)
            if background_processes.get(method):
                stop_background_task(method)

    return life


app.router.lifespan_context = _ending_tasks(app.router.lifespan_context)
app.add_middleware(Gate, hosts=json.loads(os.environ[HOSTS]))
app.add_middleware(Scratch)
for kind in (UserError, RuntimeError, AssertionError, MONAILabelException):
    app.add_exception_handler(kind, _fault)
app.add_exception_handler(HTTPException, _http)
app.add_exception_handler(RequestValidationError, _types)
app.add_api_route("/help", _help, include_in_schema=False)
