"""The gate before a stub in MONAI Label's place."""

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from .conftest import form

pytest.importorskip("starlette")
FORM = form({"params": "{}"})


def ask(method, address, body=b"", kind="", host="server", origin="", hosts=("server",), **more):
    """(status, what the stub found as body, or the line of the refusal)."""
    from common.serving.label.gate import Gate

    async def stub(scope, receive, send):
        got, more = b"", True
        while more:
            message = await receive()
            got, more = got + message.get("body", b""), message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": got})

    path, _, query = address.partition("?")
    headers = [(b"host", host.encode()), *([(b"content-type", kind.encode())] if kind else [])]
    headers += [(b"origin", origin.encode())] if origin else []
    headers += [(key.replace("_", "-").encode(), value.encode()) for key, value in more.items()]
    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query.encode(),
        "headers": headers, "scheme": "http", "server": ("server", 80), "client": ("client", 1), "root_path": "",
        "http_version": "1.1", "app": stub,
    }  # fmt: skip
    sent = []

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        sent.append(message)

    asyncio.run(Gate(stub, hosts)(scope, receive, send))
    said = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], said if sent[0]["status"] == 200 else json.loads(said)["detail"]


def test_what_is_taken_arrives_whole():
    for method, address, (body, kind) in (
        ("POST", "/infer/ssa?image=scan1", form({"params": '{"text_prompt": "$", "laterality": "image"}'})),
        ("POST", "/train/ssa", (b'{"max_epochs": 2}', "application/json")),
        ("POST", "/train/ssa", (b"null", "")),
        ("PUT", "/datastore/label?image=scan1&tag=final", form({"params": "{}"}, {"file": Path(__file__)})),
        ("GET", "/datastore/image?image=1.2.840.3", (b"", "")),
        ("DELETE", "/train/", (b"", "")),
    ):
        assert ask(method, address, body, kind) == (200, body)


def test_pages_of_other_addresses_are_refused():
    """A train request without a body needs no leave of the browser's."""
    for origin in ("http://elsewhere", "http://server:1", "null"):
        assert ask("POST", "/train/ssa", origin=origin) == (
            403, "origin: a page of another address asks; open the viewer at the server's own",
        )  # fmt: skip
    assert ask("POST", "/train/ssa", origin="http://server")[0] == 200


def test_it_goes_by_its_own_names_alone():
    """A page of another address may have its name lead here (DNS rebinding): then its origin is no stranger."""
    for host in ("localhost", "localhost:8000", "127.0.0.1:1", "[::1]:8000", "LocalHost.", "server", "Server:80"):
        assert ask("GET", "/info/", host=host)[0] == 200, host
    no = "host: the server does not go by this name; start it with --allow-host NAME"
    for host in (
        "evil.example",
        "evil.example:8000",
        "192.168.0.7",
        "",
        "localhost.evil.example",
        "localhost@evil",
        "::1",
    ):
        assert ask("POST", "/train/ssa", host=host, origin=f"http://{host}") == (403, no), host
    assert ask("GET", "/info/", host="server", hosts=()) == (403, no)
    # listening everywhere: each address of the machine, and no name
    for host, status in (("192.168.0.7:8000", 200), ("[fe80::1]", 200), ("evil.example", 403)):
        assert ask("GET", "/info/", host=host, hosts=("*",))[0] == status


def test_what_is_too_large_or_says_no_length_is_not_read():
    assert ask("POST", "/infer/ssa", *FORM, content_length=str(2**29 + 1))[0] == 413
    assert ask("POST", "/infer/ssa", *FORM, content_length="-1")[0] == 413
    assert ask("PUT", "/datastore/image", *FORM, transfer_encoding="chunked")[0] == 411
    assert ask("GET", "/info/", transfer_encoding="chunked")[0] == 200


def test_files_with_labels():
    for name, status in ((b"a.nii.gz", 200), (b"a.nrrd", 200), (b"label.bin", 200), (b"a.exe", 422), (b"a", 422)):
        body, kind = form({}, {"label": Path(__file__)})
        said = ask("PUT", "/datastore/label?image=a", body.replace(b"test_gate.py", name), kind)
        assert said[0] == status, name
    assert ask("POST", "/infer/ssa?image=a", body.replace(b"test_gate.py", b"a.nrrd"), kind) == (
        422, "label: no model here starts from a mask; leave it out",
    )  # fmt: skip


def test_lines_that_a_client_makes_are_one_line():
    from common.serving.label.gate import refused

    assert json.loads(refused("a\nb\x00c\u2028d").body) == {"detail": "a b c d"}


def test_answers_that_monai_label_calls_faults_of_the_server():
    from starlette.exceptions import HTTPException

    from common.serving.label.gate import answer_to_http, answer_to_types

    for detail, status, line in (
        ("Neither Image nor File not Session ID input is provided", 422, "image: none is given"),
        ("DICOM SEG format is not supported in a non-DICOM datastore", 422, "output: dicom_seg is of studies behind"),
        ("Failed to execute infer", 500, "Failed to execute infer"),
    ):
        answer = answer_to_http(HTTPException(500, detail))
        assert answer.status_code == status
        assert json.loads(answer.body)["detail"].startswith(line)
    assert answer_to_http(HTTPException(401, "no", {"WWW-Authenticate": "Bearer"})).headers["www-authenticate"]
    error = SimpleNamespace(
        errors=lambda: [{"loc": ("query", "output"), "msg": "Input should be 'image'", "input": "x"}]
    )
    assert json.loads(answer_to_types(error).body) == {"detail": "output: Input should be 'image'; see /docs"}


@pytest.mark.parametrize(
    ("method", "address", "status", "words"),
    [
        ("PUT", "/datastore/label?image=scan1&tag=..", 422, "tag: is no tag"),
        ("PUT", "/datastore/label?image=scan1&tag=..&tag=final", 422, "tag: is no tag"),
        ("DELETE", "/datastore/label?id=scan1&tag=../..", 422, "tag: is no tag"),
        ("DELETE", "/datastore/image?id=../scan1", 422, "id: names no image"),
        ("PUT", "/datastore/image?image=../scan1", 422, "image: names no image"),
        ("PUT", "/datastore/image?image=a%5Cb", 422, "image: names no image"),
        ("GET", "/datastore/image?image=%2Fetc%2Fpasswd", 422, "image: names no image"),
        ("GET", f"/datastore/image?image={'a' * 256}", 422, "image: names no image"),
        ("GET", "/datastore/image?image=a%00b", 422, "image: names no image"),
        ("GET", "/datastore/image?image=a%0Ab", 422, "image: names no image"),
        ("PUT", "/session/?uncompress=true", 422, "uncompress: archives are not unpacked"),
        ("POST", "/infer/ssa?image=common", 404, "image: no such image"),
        ("DELETE", "/session/..", 422, "address: holds"),
        ("PUT", "/model/ssa", 405, "model: "),
        ("DELETE", "/model/ssa", 405, "model: "),
        ("POST", "/infer/wsi/ssa", 404, "whole slides"),
        ("POST", "/infer/wsi_v2/ssa", 404, "whole slides"),
    ],
)
def test_addresses_that_are_refused(method, address, status, words, monkeypatch, tmp_path):
    # a file of that name where the server was started
    monkeypatch.chdir(tmp_path)
    (tmp_path / "common").touch()
    said = ask(method, address, *FORM)
    assert said[0] == status
    assert words in said[1]


NOT_TAKEN = "a value that starts with $, % or @ is not taken; write the value itself"
CODE = json.dumps({"device": "$import os"})


@pytest.mark.parametrize(
    ("method", "address", "body", "kind"),
    [
        ("POST", "/infer/ssa", *form({"params": CODE})),
        ("POST", "/infer/ssa", form({"params": CODE})[0], None),
        ("POST", "/infer/ssa", form({"params": "{}", "wsi": CODE})[0], None),
        ("POST", "/train/ssa", CODE.encode(), "application/json; form"),
        ("PUT", "/datastore/label", *form({"params": CODE})),
        ("PUT", "/datastore/image/info", *form({"info": CODE})),
    ],
)
def test_no_way_of_writing_a_value_gets_around_the_check(method, address, body, kind):
    if kind is None:
        kind = "Multipart/Form-Data; boundary=" + body.split(b"\r\n")[0].decode()[2:]
    assert ask(method, address, body, kind) == (422, f"device: {NOT_TAKEN}")
    assert ask(method, address, body, kind, "server/x?y")[0] == 403


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=x"])
def test_a_form_that_cannot_be_read(kind):
    status, line = ask("POST", "/infer/ssa", b"no form at all", kind)
    assert (status, line) == (422, "form: cannot be read; send multipart/form-data with the field params")


def test_names_of_files_that_lead_elsewhere(tmp_path):
    body, kind = form({}, {"file": Path(__file__)})
    for name, words in (
        (b"..", "names no image"), (b"/tmp/..", "names no image"), (b"/tmp/", "names no image"),
        (b"/tmp/.a.png", "names no image"), (b"/t\tmp/a.png", "holds a control character"),
        (b"x\\a.png", "holds a folder"),
    ):  # fmt: skip
        status, line = ask("PUT", "/datastore/image", body.replace(b"test_gate.py", name), kind)
        assert status == 422, name
        assert line.startswith(f"file: its filename: {words}"), line
    # 3D Slicer's client writes where the file lies on its own machine
    for name in (b"/tmp/Slicer-me/a.nii.gz", b"C:\\Temp\\a.nii.gz", b"../a.nii.gz"):
        assert ask("PUT", "/datastore/?image=a", body.replace(b"test_gate.py", name), kind)[0] == 200, name


def test_what_is_not_there_is_said_in_one_line_and_faults_of_the_program_are_not():
    from common.errors import UserError
    from common.serving.label.gate import answer_to

    class Fault(Exception):
        def __init__(self, kind, msg):
            self.error, self.msg = SimpleNamespace(value=kind), msg

    class ImageNotFoundException(Fault):
        pass

    for error, status, line in (
        (Fault("INVALID_INPUT", "There is no model 'x' available; {'text_prompt': 'left'}"), 404,
         "There is no model 'x' available"),
        (ImageNotFoundException("APP_ERROR", "Image x not found"), 404, "Image x not found"),
        (UserError("image: no such image"), 422, "image: no such image"),
    ):  # fmt: skip
        answer = answer_to(error)
        assert (answer.status_code, json.loads(answer.body)) == (status, {"detail": line})
    from common.serving.label.requests import NotThere, Unavailable

    assert answer_to(NotThere("image: no such image")).status_code == 404
    assert answer_to(Unavailable("model.pt: is not there")).status_code == 503
    assert answer_to(AssertionError("ZIP archive was not created, nothing to include")).status_code == 404
    assert answer_to(AssertionError()) is None
    assert answer_to(Fault("INFERENCE_ERROR", "out of memory")) is None
    assert answer_to(ZeroDivisionError()) is None
