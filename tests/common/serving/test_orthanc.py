import json
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest

from common.errors import UserError
from common.images import Algorithm, write_radiograph, write_secondary_capture, write_seg
from common.serving.orthanc import Orthanc, Unreachable, Watch, derived_files, watch

MODEL = Algorithm("mmi_unet", "0.1.0", "ab" * 32)
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")

# Stands in for `python -m tools segment`: copies the segmentation prepared for an image; what the image's PatientID
# says it does instead.
SEGMENT = """
import pathlib, shutil, sys, pydicom
images, output, prepared, log = map(pathlib.Path, sys.argv[1:])
output.mkdir(parents=True)
(output / "results.csv").write_text("")
found = sorted(images.rglob("*.dcm"))
with log.open("a") as file:
    print(len(found), file=file)
for path in found:
    header = pydicom.dcmread(path, stop_before_pixels=True)
    if header.PatientID.startswith("EXIT"):
        sys.exit(int(header.PatientID[4:]))
    if header.PatientID == "WRONG OPTION":
        (output / "results.csv").unlink()
        sys.exit(2)
    if header.Modality in ("CR", "DX"):
        shutil.copy(prepared / (header.SOPInstanceUID + ".dcm"), output)
        shutil.copy(path, output / "a copy of the image, which is no result.dcm")
"""


class Server:
    """As much of Orthanc's REST interface as is used, with the real answers' keys."""

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.headers: dict[str, pydicom.Dataset] = {}
        self.changes: list[dict] = []
        self.refuse: int = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.answer(*server.get(self.path, self.headers))

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                new = server.add(body)
                self.answer(200, json.dumps({"ID": "x", "Status": "Success" if new else "AlreadyStored"}).encode())

            def answer(self, code, data):
                self.send_response(code)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def add(self, data: bytes) -> bool:
        import io

        header = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
        name = f"i-{header.SOPInstanceUID}"
        new = name not in self.files
        self.files[name], self.headers[name] = data, header
        if new:
            for kind, identifier in (("NewInstance", name), ("StableSeries", f"s-{header.SeriesInstanceUID}")):
                self.changes.append({"ChangeType": kind, "ID": identifier, "Seq": len(self.changes) + 1})
        return new

    def series(self, name: str) -> dict | None:
        own = [key for key, header in self.headers.items() if f"s-{header.SeriesInstanceUID}" == name]
        if not own:
            return None
        first = self.headers[own[0]]
        tags = {"Modality": first.Modality}
        return {"MainDicomTags": tags, "Instances": own, "ParentStudy": f"t-{first.StudyInstanceUID}"}

    def get(self, path: str, headers) -> tuple[int, bytes]:
        if self.refuse:
            return self.refuse, b""
        _, kind, *rest = path.split("/")
        if kind.startswith("changes"):
            since = int(kind.split("since=")[1].split("&")[0]) if "since" in kind else len(self.changes)
            some = [change for change in self.changes if change["Seq"] > since][:100]
            last = some[-1]["Seq"] if some else len(self.changes)
            return 200, json.dumps({"Changes": some, "Done": last == len(self.changes), "Last": last}).encode()
        if kind == "series":
            found = self.series(rest[0])
        elif kind == "studies":
            names = {f"s-{h.SeriesInstanceUID}" for h in self.headers.values() if f"t-{h.StudyInstanceUID}" == rest[0]}
            found = [self.series(name) for name in sorted(names)]
        else:
            return (200, self.files[rest[0]]) if rest[0] in self.files else (404, b"")
        return (404, b"") if found is None else (200, json.dumps(found).encode())


@pytest.fixture
def server():
    server = Server()
    yield server
    server.http.shutdown()


@pytest.fixture
def task(tmp_path, server):
    """A function that makes a Watch whose command gives the prepared segmentations."""
    (tmp_path / "segment.py").write_text(SEGMENT)
    said: list[str] = []

    def make(url=server.url, say=said.append):
        def command(images, output):
            script = [sys.executable, tmp_path / "segment.py", images, output]
            return [*map(str, [*script, tmp_path / "prepared", tmp_path / "log"])]

        return Watch(Orthanc(url), tmp_path / "state", command, say=say)

    make.said = said
    return make


def image(tmp_path, seed: int, **options) -> tuple[Path, Path, np.ndarray]:
    """A radiograph, and the segmentation prepared for it."""
    pixels = np.random.default_rng(seed).integers(0, 256, (13, 11), dtype=np.uint8)
    path, mask = tmp_path / f"{seed}.dcm", pixels > 99
    uid = write_radiograph(path, pixels, modality="CR" if seed % 2 else "DX", **options)
    seg = tmp_path / "prepared" / f"{uid}.dcm"
    write_seg(seg, [path], [mask], fractional=False, algorithm=MODEL)
    return path, seg, mask


def run(task):
    watch(task, from_start=True, once=True, seconds=0)


def test_segmentations_come_back_and_are_not_segmented_again(tmp_path, server, task):
    pairs = [image(tmp_path, seed) for seed in range(3)]
    for path, _, _ in pairs:
        server.add(path.read_bytes())
    run(task())
    stored = [data for name, data in server.files.items() if server.headers[name].Modality == "SEG"]
    assert sorted(stored) == sorted(seg.read_bytes() for _, seg, _ in pairs)
    assert (tmp_path / "log").read_text() == "3\n"  # one run for all; none for the segmentations
    run(task())
    assert (tmp_path / "log").read_text() == "3\n"
    assert not list((tmp_path / "state").glob("work*"))  # no patient's image stays behind


def test_a_page_that_was_not_finished_is_done_again_and_changes_nothing(tmp_path, server, task):
    path, seg, _ = image(tmp_path, 0)
    server.add(path.read_bytes())
    server.add(seg.read_bytes())  # stored before the kill
    run(task())
    assert len(server.files) == 2
    assert "1 objects stored, 0 new" in task.said[-1]


def test_reports_of_the_study_are_fetched_with_its_images(tmp_path, server, task):
    path, _, _ = image(tmp_path, 0)
    server.add(path.read_bytes())
    report = pydicom.dcmread(path)
    report.Modality, report.SeriesInstanceUID, report.SOPInstanceUID = "SR", "1.2.3", "1.2.3.4"
    report.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    report.save_as(tmp_path / "sr.dcm")
    server.add((tmp_path / "sr.dcm").read_bytes())
    run(task())
    assert (tmp_path / "log").read_text() == "2\n"


def test_without_from_start_only_what_comes_later(tmp_path, server, task):
    first, second = image(tmp_path, 0)[0], image(tmp_path, 1)[0]
    server.add(first.read_bytes())
    new = task()
    since = new.begin(from_start=False)
    new.page(since)
    assert not (tmp_path / "log").exists()
    server.add(second.read_bytes())
    watch(task(), from_start=False, once=True, seconds=0)
    assert (tmp_path / "log").read_text() == "1\n"


def test_other_modalities_and_what_was_deleted_are_left_alone(tmp_path, server, task):
    path, _, _ = image(tmp_path, 0)
    other = pydicom.dcmread(path)
    other.Modality = "MG"
    other.save_as(tmp_path / "mg.dcm")
    server.add((tmp_path / "mg.dcm").read_bytes())
    server.changes.append({"ChangeType": "StableSeries", "ID": "s-gone", "Seq": 3})
    run(task())
    assert not (tmp_path / "log").exists()


def test_a_series_that_breaks_the_command_does_not_hold_up_the_others(tmp_path, server, task):
    good, bad = image(tmp_path, 0)[0], image(tmp_path, 1, patient_id="EXIT7")[0]
    for path in (good, bad):
        server.add(path.read_bytes())
    run(task())
    assert sum(header.Modality == "SEG" for header in server.headers.values()) == 1
    name = f"s-{pydicom.dcmread(bad).SeriesInstanceUID}"
    assert json.loads((tmp_path / "state" / "state.json").read_text())["failed"] == [name]
    assert any(f"series {name}: FAILED with exit code 7" in line for line in task.said)
    run(task())
    assert "1 series failed before" in task.said[-1]


@pytest.mark.parametrize("patient", ["EXIT3", "WRONG OPTION"])
def test_a_stop_leaves_the_page_to_be_done(tmp_path, server, task, patient):
    server.add(image(tmp_path, 0, patient_id=patient)[0].read_bytes())
    with pytest.raises(UserError, match="segmenting was stopped"):
        run(task())
    assert not (tmp_path / "state" / "state.json").exists()


def test_what_is_said_names_no_patient(tmp_path, server, task):
    server.add(image(tmp_path, 0, patient_id="SECRET-7")[0].read_bytes())
    run(task())
    assert task.said
    assert not any("SECRET" in line for line in task.said)


def test_a_server_that_does_not_answer(tmp_path, server, task):
    with pytest.raises(Unreachable, match=r"does not answer .*is Orthanc running"):
        run(task("http://127.0.0.1:9"))
    server.refuse = 401
    with pytest.raises(UserError, match="refuses the user or the password"):
        run(task())
    server.refuse = 503
    with pytest.raises(Unreachable, match="answers 503"):
        run(task())
    with pytest.raises(UserError, match="no address of an Orthanc"):
        Orthanc("localhost:8042")


def test_waiting_for_a_server_is_said_once(tmp_path, server, task):
    said: list[str] = []
    server.refuse = 503
    tries = iter(range(3))

    def answer(path, headers, get=server.get):
        if next(tries, None) is None:
            server.refuse = 401
        return get(path, headers)

    server.get = answer
    with pytest.raises(UserError, match="password"):
        watch(task(say=said.append), from_start=True, once=False, seconds=0)
    assert len(said) == 1
    assert said[0].startswith("waiting:")


def test_another_database_begins_at_its_start(tmp_path, server, task):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "state.json").write_text('{"since": 99, "failed": []}')
    server.add(image(tmp_path, 0)[0].read_bytes())
    run(task())
    assert (tmp_path / "log").read_text() == "1\n"
    (tmp_path / "state" / "state.json").write_text("{")
    with pytest.raises(UserError, match="no state of this command"):
        run(task())


# With the real program


def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def orthanc(tmp_path):
    """A real Orthanc on loopback, with an empty database; its DICOM port stays closed."""
    program = shutil.which("Orthanc")
    if not program or not PLUGIN.exists():
        pytest.skip("Orthanc and its DICOMweb plugin are not installed")
    number = port()
    settings = {
        "StorageDirectory": str(tmp_path / "db"), "IndexDirectory": str(tmp_path / "db"), "Plugins": [str(PLUGIN)],
        "HttpPort": number, "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
        "DicomServerEnabled": False, "StableAge": 1, "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }  # fmt: skip
    (tmp_path / "db").mkdir()
    (tmp_path / "orthanc.json").write_text(json.dumps(settings))
    with (tmp_path / "orthanc.log").open("wb") as log:
        process = subprocess.Popen([program, tmp_path / "orthanc.json"], stdout=log, stderr=log)
    url = f"http://127.0.0.1:{number}"
    for _ in range(100):
        try:
            assert Orthanc(url).get("/system")["Version"]
            break
        except Unreachable:
            time.sleep(0.2)
    yield url
    process.terminate()
    process.wait(20)


def stow(url: str, data: bytes) -> None:
    """Store one object over DICOMweb."""
    body = b"--XX\r\nContent-Type: application/dicom\r\n\r\n" + data + b"\r\n--XX--"
    kind = 'multipart/related; type="application/dicom"; boundary=XX'
    headers = {"Content-Type": kind, "Accept": "application/dicom+json"}
    request = urllib.request.Request(f"{url}/dicom-web/studies", data=body, headers=headers)
    with urllib.request.urlopen(request) as answer:
        result = json.loads(answer.read())
    assert not result.get("00081198", {}).get("Value")  # FailedSOPSequence
    assert len(result["00081199"]["Value"]) == 1


def wado(url: str, header: pydicom.Dataset) -> bytes:
    """Get one object back over DICOMweb."""
    place = f"studies/{header.StudyInstanceUID}/series/{header.SeriesInstanceUID}/instances/{header.SOPInstanceUID}"
    accept = {"Accept": 'multipart/related; type="application/dicom"'}
    with urllib.request.urlopen(urllib.request.Request(f"{url}/dicom-web/{place}", headers=accept)) as answer:
        data, boundary = answer.read(), answer.headers.get_param("boundary").strip('"').encode()
    part = data.split(b"--" + boundary)[1]
    return part[part.index(b"\r\n\r\n") + 4 : -2]


@pytest.mark.full
@pytest.mark.real
@pytest.mark.parametrize("kind", ["binary", "fractional", "picture"])
def test_orthanc_gives_back_over_dicomweb_what_was_stored(orthanc, dicom_dir, tmp_path, kind):
    from common.images import read_image

    seen = 0
    for source in sorted(dicom_dir.iterdir()):
        if source.name == "ct_small_pydicom.dcm":
            continue  # has the SOPInstanceUID of ct_small_highdicom.dcm
        path = tmp_path / "a.dcm"
        try:
            mask = np.random.default_rng(0).random(read_image(source)[0].shape[::-1]).astype(np.float32)
            if kind == "picture":
                rgb = np.zeros((9, 9, 3), np.uint8)
                write_secondary_capture(path, source, rgb, algorithm=MODEL)
            else:
                masks = [mask if kind == "fractional" else mask > 0.5]
                write_seg(path, [source], masks, fractional=kind == "fractional", algorithm=MODEL)
        except UserError:
            continue
        stow(orthanc, path.read_bytes())
        sent = pydicom.dcmread(path)
        (tmp_path / "back.dcm").write_bytes(wado(orthanc, sent))
        back = pydicom.dcmread(tmp_path / "back.dcm")
        assert back.to_json_dict() == sent.to_json_dict()
        if kind != "picture":
            assert np.array_equal(highdicom.seg.segread(tmp_path / "back.dcm").pixel_array, sent.pixel_array)
        seen += 1
    assert seen == 17


@pytest.mark.full
def test_a_real_orthanc_is_watched(orthanc, tmp_path, task):
    pairs = [image(tmp_path, seed) for seed in range(3)]
    for path, _, _ in pairs:
        assert Orthanc(orthanc).store(path) == "Success"
    for _ in range(50):
        watch(task(orthanc), from_start=True, once=True, seconds=0)
        if len(Orthanc(orthanc).get("/instances")) == 6:
            break
        time.sleep(0.3)
    for path, seg, mask in pairs:
        (tmp_path / "back.dcm").write_bytes(wado(orthanc, pydicom.dcmread(seg)))
        got = highdicom.seg.segread(tmp_path / "back.dcm").get_pixels_by_source_instance(
            [str(pydicom.dcmread(path).SOPInstanceUID)]
        )
        assert np.array_equal(got[0, ..., 0], mask)
    time.sleep(2.5)  # the segmentations are stable too, and are not worked on
    runs = (tmp_path / "log").read_text()
    watch(task(orthanc), from_start=True, once=True, seconds=0)
    assert (tmp_path / "log").read_text() == runs
    assert len(Orthanc(orthanc).get("/instances")) == 6


@pytest.mark.full
def test_the_command_takes_radiographs_of_a_real_orthanc_and_stores_their_segmentations(orthanc, tmp_path):
    """`python -m tools orthanc` as it is, which runs `python -m tools segment` with random weights."""
    import torch
    from monai.bundle import ConfigParser

    from common.bundle import bundle_folder, configuration_files
    from common.datasets import phantoms
    from tools.__main__ import main

    torch.manual_seed(0)
    parser = ConfigParser()
    parser.read_config(configuration_files(bundle_folder("unet"), ["inference", "demo"]))
    torch.save(parser.get_parsed_content("network_def").state_dict(), tmp_path / "unet.pt")
    options = f"bundle: unet\noverlay: demo\nweights: {tmp_path / 'unet.pt'}\ndevice: cpu\nno-prompt: default\n"
    (tmp_path / "segment.yaml").write_text(options)
    uids = {}
    for seed, modality in enumerate(("CR", "DX")):
        picture = phantoms.draw(seed, 64).image
        uids[write_radiograph(tmp_path / "a.dcm", picture, modality=modality)] = picture.shape
        Orthanc(orthanc).store(tmp_path / "a.dcm")
    time.sleep(3)  # until the series are stable
    arguments = ["orthanc", "--url", orthanc, "--folder", str(tmp_path / "state"), "--once", "--from-start",
                 "--config", str(tmp_path / "segment.yaml"), "--secondary-capture"]  # fmt: skip
    assert main(arguments) == 0
    found = {}
    for name in Orthanc(orthanc).get("/instances"):
        Orthanc(orthanc).fetch(name, tmp_path / "back.dcm")
        header = pydicom.dcmread(tmp_path / "back.dcm")
        if header.Modality == "SEG":
            source = str(header.SourceImageSequence[0].ReferencedSOPInstanceUID)
            found[source] = header.pixel_array.shape
        else:
            found.setdefault(header.Modality, header)
    assert {uid: found[uid] for uid in uids} == uids
    assert found["OT"].PhotometricInterpretation == "RGB"


def test_results_are_found_by_content(tmp_path):
    path, seg, _ = image(tmp_path, 0)
    (tmp_path / "no.dcm").write_bytes(b"no DICOM")
    assert list(derived_files(tmp_path)) == [seg]
    assert path.exists()
