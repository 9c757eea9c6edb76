import io
import json
import logging

import pytest

from common.errors import UserError
from common.serving.label.requests import check_request, check_training, hide_sentences, redact, sentence_of

CODE = ("$import antigravity", "$from os import getcwd as torch", "%x.json", "@device", ' $__import__("os")')


def test_what_clients_send_is_taken():
    check_request({
        "text_prompt": "$import os", "laterality": "patient", "threshold": 0.3, "device": ["cpu"], "logging": "info",
        "model_filename": ["model.pt"], "result_extension": ".nrrd",
        "result_compress": False, "label_info": [{"name": "$lesion"}],
    })  # fmt: skip
    check_training({"model": "ssa", "device": "NVIDIA H100 80GB HBM3:0", "max_epochs": 3, "val_split": 0.2,
                    "gpus": "0,1", "tracking": ["None", "mlflow"]})  # fmt: skip


@pytest.mark.parametrize("code", CODE)
@pytest.mark.parametrize("key", ["device", "max_epochs", "result_extension", "anything", "model_filename"])
def test_no_value_but_a_sentence_may_look_like_code(key, code):
    for params in ({key: code}, {key: [code]}, {key: {"deep": [code]}}, {code: 1}):
        with pytest.raises(UserError, match=r"starts with \$, % or @"):
            check_request(params)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ([], "params: is no object"),
        ({"text_prompt": ["left"]}, "text_prompt: is no text"),
        ({"text_prompt": "left lung " * 1000, "laterality": "image"}, "text_prompt: has 10000 characters"),
        ({"text_prompt": "left lung"}, "laterality: whose left"),
        ({"text_prompt": "left lung", "laterality": "choose"}, "laterality: whose left"),
        ({"text_prompt": "left lung", "laterality": ["patient", "image"]}, "laterality: whose left"),
        ({"threshold": 1}, "threshold: is no probability"),
        ({"threshold": "0.5"}, "threshold: is no probability"),
        ({"threshold": True}, "threshold: is no probability"),
        ({"device": {"a": 1}}, "device: is none"),
        ({"device": "cpu';x"}, "device: is none"),
        ({"model_filename": "../../secret.pt"}, "model_filename: only model.pt"),
        ({"model_filename": ["last.pt", "model.pt"]}, "model_filename: only model.pt"),
        ({"model_filename": []}, "model_filename: only model.pt"),
        ({"logging": "loud"}, "logging: is no level"),
        ({"label_tag": ".."}, "label_tag: is no tag"),
        ({"label_tag": "a/b"}, "label_tag: is no tag"),
        ({"label_tag": ""}, "label_tag: is no tag"),
        ({"label_tag": ["final"]}, "label_tag: is no tag"),
        ({"image": "scan1"}, "image: is no parameter"),
        ({"result_extension": ".exe"}, r"result_extension: is not written here; write one of \.nii\.gz, \.nii"),
        ({"result_extension": "/../../x.png"}, "result_extension: is not written"),
        ({"result_extension": [".png"]}, "result_extension: is not written"),
        ({"result_compress": "yes"}, "result_compress: is neither"),
        ({"text_prompt": "left\ud800 lung", "laterality": "image"}, "text_prompt: holds half a character"),
        ({"\udfff": 1}, "holds half a character"),
        ({"deep": {"text_prompt": "$import os"}}, r"text_prompt: a value that starts with \$"),
    ],
)
def test_refusals(params, words):
    with pytest.raises(UserError, match=words) as raised:
        check_request(params)
    assert "left lung" not in str(raised.value)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"max_epochs": 0}, "max_epochs"), ({"max_epochs": True}, "max_epochs"), ({"max_epochs": "3"}, "max_epochs"),
        ({"val_split": 0}, "val_split"), ({"val_split": -1}, "val_split"), ({"pretrained": False}, "pretrained"),
        ({"run_id": "network_def"}, "run_id"), ({"gpus": "0;1"}, "gpus"), ({"tracking": "mlflow"}, "tracking"),
        ({"force_multi_gpu": True}, "force_multi_gpu"), ({"model_filename": "model.pt"}, "model_filename"),
    ],
)  # fmt: skip
def test_refusals_of_a_training(params, words):
    with pytest.raises(UserError, match=words):
        check_training(params)


def test_a_sentence_needs_a_side_and_blank_is_none():
    assert sentence_of({"text_prompt": "left lung", "laterality": "image"}) == ("left lung", "image")
    assert sentence_of({"text_prompt": " ", "laterality": ["choose", "patient"]}) is None
    assert sentence_of({}) is None


SECRETS = ("Mustermann's lung", 'the "left" lung', "back\\slash'\"", "new\nline é", "$import os")


@pytest.mark.parametrize("secret", SECRETS)
def test_no_line_of_a_log_holds_a_sentence(secret):
    request = {"model": "ssa", "text_prompt": secret, "laterality": "patient"}
    for line in (str(request), json.dumps(request), json.dumps({"params": json.dumps(request)})):
        hidden = redact(line)
        assert "[sentence]" in hidden
        for word in ("Muster", "left", "slash", "line", "import"):
            assert word not in hidden
        assert "laterality" in hidden
    line = "a.png: sentence not understood: 'Mustermann', 'x'; write it like 'Unilateral'"
    assert redact(line) == "a.png: sentence not understood: [sentence]; write it like 'Unilateral'"
    assert redact("the sides of 'left Mustermann' cannot be swapped") == "the sides of [sentence] cannot be swapped"
    assert redact("Infer Request: {'model': 'ssa'}") == "Infer Request: {'model': 'ssa'}"


def test_no_line_of_a_log_holds_an_answer_or_a_patient():
    said = {
        "sides": "patient left", "zones": "patient left lower", "reasons": ["Muster] 'x'", "left"], "warnings": "left",
        "PatientID": "Muster", "PatientName": "Muster^Max", "StudyDate": "19700101", "reason": [], "pixels": 7,
    }  # fmt: skip
    for line in (str(said), json.dumps(said), json.dumps({"params": json.dumps(said | {"reasons": ["left"]})})):
        hidden = redact(line)
        for word in ("left", "Muster", "1970"):
            assert word not in hidden
        assert "pixels" in hidden
    for key in ("text_prompt", "asked", "reasons"):
        assert redact(f"Data key: {key} = left\nlung") == f"Data key: {key} = [sentence]"
    assert redact("Data key: image = (1, 2)") == "Data key: image = (1, 2)"


def test_every_logger_of_the_process_hides_sentences(monkeypatch):
    before = logging.getLogRecordFactory()
    stream = io.StringIO()
    logger = logging.getLogger("some.library")
    handler = logging.StreamHandler(stream)
    logger.addHandler(handler)
    try:
        hide_sentences()
        factory = logging.getLogRecordFactory()
        hide_sentences()
        assert logging.getLogRecordFactory() is factory  # once is enough
        logger.warning("Infer Request: %s", {"text_prompt": "Mustermann"})
        logger.warning("%d", "no number Mustermann")
        try:
            raise RuntimeError("applying transform") from UserError("sentence not understood: 'Mustermann'; write it")
        except RuntimeError:
            logger.warning("failed", exc_info=True)
        try:
            raise ValueError("of the program")
        except ValueError:
            logger.warning("failed", exc_info=True)
    finally:
        logging.setLogRecordFactory(before)
        logger.removeHandler(handler)
    said = stream.getvalue()
    assert "Infer Request: {'text_prompt': [sentence]}" in said
    assert "failed: sentence not understood: [sentence]" in said
    assert "ValueError: of the program" in said  # what is no fault of the user keeps its traceback
    assert "Mustermann" not in said
