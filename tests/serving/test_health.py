"""Health, metadata and metrics of a replica."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving.replica import ROOT, SIGNATURE, Replica, bundle, image, running, tiny_model


def test_live_and_ready(replica: Replica) -> None:
    assert replica.get("/v2/health/live", key=None).json() == {"live": True}
    assert replica.get("/v2/health/ready", key=None).json() == {"ready": True}
    assert replica.get("/v2/models/digits/ready").json() == {"name": "digits", "ready": True}
    assert replica.get("/v2/models/digits/versions/3/ready").status_code == 200


def test_server_metadata(replica: Replica) -> None:
    assert replica.get("/v2").json() == {"name": "windlass", "version": "3", "extensions": ["binary_tensor_data"]}
    assert replica.get("/v2/models").json() == {"models": [{"name": "digits", "version": "3", "ready": True}]}


def test_model_metadata_is_the_signature(replica: Replica) -> None:
    about = replica.get("/v2/models/digits").json()
    assert (about["name"], about["versions"], about["platform"]) == ("digits", ["3"], "onnx_onnxv1")
    assert (about["inputs"], about["outputs"]) == (SIGNATURE["inputs"], SIGNATURE["outputs"])
    assert about["parameters"]["classes"][3] == "3"


def test_prometheus_text_counts_calls_and_names_nobody(tmp_path: Path) -> None:
    with running(tmp_path) as replica:
        for _ in range(3):
            replica.infer(image())
        replica.infer({})
        replica.infer(image(), key="unknown")
        text = replica.get("/metrics", key=None).text
        lines = text.splitlines()
        for line in (
            'windlass_requests_total{status="200"} 3.0',
            'windlass_requests_total{status="400"} 1.0',
            'windlass_requests_total{status="401"} 1.0',
            "windlass_request_duration_seconds_count 3.0",
            'windlass_request_duration_seconds_bucket{le="+Inf"} 3.0',
            "windlass_requests_in_flight 0.0",
            "windlass_ready 1.0",
        ):
            assert line in lines
        assert "windlass_model_load_seconds" in text
        assert "key_" not in text


def started_with(folder: Path, **environment: str) -> tuple[int, dict[str, str]]:
    """The exit code and failure of a replica that can't be started."""
    replica = Replica(folder, environment)
    replica.publish(bundle())
    replica.start(wait=False)
    try:
        code = replica.wait()
    finally:
        replica.end()
    failure: dict[str, str] = json.loads((folder / "out" / "failure.json").read_text())
    assert failure["message"] in replica.log()
    return code, failure


def test_a_model_that_can_t_be_loaded_says_why(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "signature.json").write_text(json.dumps(SIGNATURE))
    code, failure = started_with(tmp_path)
    assert (code, failure["failure"]) == (1, "ModelMissing")
    (tmp_path / "in" / "model.onnx").write_bytes(b"not a graph")
    code, failure = started_with(tmp_path)
    assert (code, failure["failure"]) == (1, "ModelNotLoadable")
    assert failure["message"].startswith("onnxruntime can't load model.onnx:")


@pytest.mark.parametrize(
    ("signature", "failure", "message"),
    [
        (None, "SignatureMissing", "signature.json can't be read: No such file or directory."),
        ("{", "BadSignature", "signature.json can't be used"),
        ({**SIGNATURE, "inputs": []}, "BadSignature", "inputs is empty"),
        (
            {**SIGNATURE, "inputs": [{"name": "picture", "datatype": "FP32", "shape": [-1, 1, 8, 8]}]},
            "SignatureMismatch",
            'signature.json names the input "picture", which model.onnx does not have. It has image.',
        ),
        (
            {**SIGNATURE, "outputs": [{"name": "logits", "datatype": "INT64", "shape": [-1, 10]}]},
            "SignatureMismatch",
            'The output "logits" is tensor(float) in model.onnx, not tensor(int64).',
        ),
    ],
)
def test_a_signature_that_does_not_fit_says_why(tmp_path: Path, signature: object, failure: str, message: str) -> None:
    (tmp_path / "in").mkdir()
    tiny_model(tmp_path / "in" / "model.onnx")
    if signature is not None:
        text = signature if isinstance(signature, str) else json.dumps(signature)
        (tmp_path / "in" / "signature.json").write_text(text)
    code, said = started_with(tmp_path)
    assert (code, said["failure"]) == (1, failure)
    assert message in said["message"]


def test_a_bad_setting_is_named(tmp_path: Path) -> None:
    code, failure = started_with(tmp_path, WINDLASS_THREADS="many")
    assert (code, failure["failure"]) == (1, "BadSetting")
    assert failure["message"] == "WINDLASS_THREADS is 'many'; it must be a number from 1 on, such as 1."


def test_it_needs_neither_django_nor_torch() -> None:
    program = (
        "import sys, workers.serving.__main__; "
        "print([m for m in ('django', 'torch', 'apps', 'rest_framework') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
