"""A prediction: what comes back for what is sent."""

from __future__ import annotations

import json
import struct

import httpx
import pytest

from tests.serving.replica import Replica, bearer, image


def test_it_answers_with_the_model_s_output_and_labels(replica: Replica) -> None:
    response = replica.infer({**image(), "id": "call-1"})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    answer = response.json()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("digits", "3", "call-1")
    assert answer["parameters"] == {"labels": ["3"]}
    assert answer["outputs"] == [
        {"name": "logits", "datatype": "FP32", "shape": [1, 10], "data": [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]}
    ]


def test_it_tells_revision_and_timing_in_headers(replica: Replica) -> None:
    headers = replica.infer(image()).headers
    assert headers["x-windlass-revision"] == "3"
    parts = dict(part.split(";dur=") for part in headers["server-timing"].split(","))
    assert list(parts) == ["auth", "queue", "model"]
    assert all(0 <= float(milliseconds) < 5000 for milliseconds in parts.values())


def test_it_takes_nested_and_flat_data_and_whole_numbers_alike(replica: Replica) -> None:
    flat = image(2)
    nested = image(2)
    pixels = [int(pixel) for pixel in nested["inputs"][0]["data"]]
    nested["inputs"][0]["data"] = [[[pixels[row : row + 8] for row in range(0, 64, 8)]]]
    assert replica.infer(flat).json() == replica.infer(nested).json()


def test_it_answers_a_batch_with_a_label_for_each_item(replica: Replica) -> None:
    answer = replica.infer(image(count=5)).json()
    assert answer["outputs"][0]["shape"] == [5, 10]
    assert answer["parameters"]["labels"] == ["3"] * 5


def test_it_answers_under_a_version_s_path(replica: Replica) -> None:
    url = f"{replica.url}/v2/models/digits/versions/3/infer"
    assert httpx.post(url, json=image(), headers=bearer("wl_live_test-secret")).status_code == 200


def test_outputs_can_be_selected(replica: Replica) -> None:
    answer = replica.infer({**image(), "outputs": [{"name": "logits"}, {"name": "logits"}]}).json()
    assert [output["name"] for output in answer["outputs"]] == ["logits"]


def binary_body(values: list[float], **request: object) -> tuple[bytes, str]:
    entry = {
        "name": "image",
        "datatype": "FP32",
        "shape": [1, 1, 8, 8],
        "parameters": {"binary_data_size": 256},
    }
    text = json.dumps({"inputs": [entry], **request}).encode()
    return text + struct.pack("<64f", *values), str(len(text))


def test_tensors_can_be_sent_and_fetched_as_bytes(replica: Replica) -> None:
    values = [float(number) for number in range(64)]
    body, length = binary_body(values, parameters={"binary_data_output": True})
    response = replica.infer(body, inference_header_content_length=length)
    assert response.status_code == 200, response.text
    size = int(response.headers["inference-header-content-length"])
    output = json.loads(response.content[:size])["outputs"][0]
    assert output["parameters"] == {"binary_data_size": 40}
    assert struct.unpack("<10f", response.content[size:]) == tuple(values[:10])


def test_values_that_are_not_finite_are_null_and_counted(replica: Replica) -> None:
    body, length = binary_body([float("nan"), float("inf"), *[1.0] * 62])
    answer = replica.infer(body, inference_header_content_length=length).json()
    assert answer["outputs"][0]["data"][:3] == [None, None, 1]
    assert answer["parameters"]["non_finite"] == {"logits": 2}


@pytest.mark.parametrize("size", [0, 255, 257, -1, "256", 10**30])
def test_a_wrong_binary_size_is_refused(replica: Replica, size: object) -> None:
    body, _ = binary_body([0.0] * 64)
    text = body[:-256].replace(b'"binary_data_size": 256', f'"binary_data_size": {json.dumps(size)}'.encode())
    error = replica.refused(text + body[-256:], inference_header_content_length=str(len(text)))
    assert "bytes" in error


@pytest.mark.parametrize("length", ["-1", "99999999", "x", "9" * 4400])
def test_a_wrong_header_length_is_refused(replica: Replica, length: str) -> None:
    body, _ = binary_body([0.0] * 64)
    assert "Inference-Header-Content-Length" in replica.refused(body, inference_header_content_length=length)
