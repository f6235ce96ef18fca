"""A prediction that can't be made: the message says what happened, why, and what to do."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.serving.replica import SECRET, Replica, bearer, image


def with_input(**changes: Any) -> dict[str, Any]:
    body = image()
    body["inputs"][0].update(changes)
    return body


@pytest.mark.parametrize(
    ("shape", "hint"),
    [
        ([1, 8, 8], "Add the channel axis: [1, 1, 8, 8]."),
        ([5, 8, 8], "Add the channel axis: [5, 1, 8, 8]."),
        ([1, 1, 1, 8, 8], "Leave out axis 0: [1, 1, 8, 8]."),
        ([1, 8, 8, 1], "Put the axes in this order: [1, 1, 8, 8]."),
        ([1, 1, 8, 9], "Axis 3 must be 8, not 9."),
        ([64], "The same values fit as [1, 1, 8, 8]."),
        ([3, 64], "The same values fit as [3, 1, 8, 8]."),
        ([7], "Send a shape such as [1, 1, 8, 8]."),
    ],
)
def test_a_wrong_shape_names_one_that_works(replica: Replica, shape: list[int], hint: str) -> None:
    assert replica.refused(with_input(shape=shape)) == (
        f'Input "image" has shape {shape}; the model wants [batch, 1, 8, 8]. {hint}'
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The body is empty. Send the inputs as JSON."),
        (b"{", "The body is not JSON: unexpected end of data: line 1 column 2 (char 1)."),
        (b"\xff\xfe", "The body is not JSON:"),
        (b"[1]", 'The body must be a JSON object with "inputs".'),
        ({}, 'The body has no "inputs". Send {"inputs":[{"name":"image","datatype":"FP32","shape":[1,1,8,8],"data":'),
        ({"inputs": [3]}, 'Each input must be an object with a "name".'),
        ({"inputs": [{"name": "img"}]}, 'The model has no input "img". It wants "image" (FP32 [batch, 1, 8, 8]).'),
        ({"inputs": image()["inputs"] * 2}, 'Input "image" is there twice. Send it once.'),
        (with_input(datatype="INT64"), 'has datatype INT64; the model wants FP32. Send "datatype": "FP32".'),
        (with_input(datatype=None), 'Input "image" has no datatype; the model wants FP32. Send "datatype": "FP32".'),
        (with_input(shape=None), 'has no shape; the model wants [batch, 1, 8, 8]. Send "shape": [1, 1, 8, 8].'),
        (with_input(shape=[1, 1, 8, -8]), 'Input "image" has a shape that is no list of whole numbers;'),
        (with_input(shape=[0, 1, 8, 8], data=[]), 'Input "image" has shape [0, 1, 8, 8], which holds no values.'),
        (with_input(shape=[10**18, 1, 8, 8]), 'has 64 values; shape [1000000000000000000, 1, 8, 8] holds'),
        (with_input(shape=[1] * 999), 'Input "image" has a shape of 999 axes; the model wants [batch, 1, 8, 8].'),
        (with_input(data=[1.0] * 63), 'has 63 values; shape [1, 1, 8, 8] holds 64. Make data and shape agree.'),
        (with_input(data=[[1.0] * 32] * 2), 'Input "image" has data nested as [2, 32] and shape [1, 1, 8, 8].'),
        (with_input(data=[[1.0], [1.0, 2.0]]), 'Input "image" has rows of different lengths.'),
        (with_input(data=[1.0, [2.0]]), 'Input "image" has rows of different lengths.'),
        (with_input(data="1, 2"), 'has data that is no list. Send "data": [...] with 64 values, row by row.'),
        (with_input(data=None), 'Input "image" has no data. Send "data": [...] with 64 values, row by row.'),
        (with_input(data=[None] * 64), 'Input "image" has null at position 0; FP32 is numbers.'),
        (with_input(data=[1.0] * 63 + ["2"]), 'Input "image" has text at position 63; FP32 is numbers.'),
        (with_input(data=[1.0] * 63 + [True]), 'Input "image" has true or false at position 63; FP32 is numbers.'),
        (with_input(data=[{}] * 64), 'Input "image" has an object at position 0; FP32 is numbers.'),
        (with_input(data=[1e300] * 64), 'Input "image" holds 1e+300, which FP32 has no room for.'),
        (with_input(parameters=3), '"parameters" must be an object.'),
        (with_input(parameters={"binary_data_size": 4}), "the Inference-Header-Content-Length header is not set."),
        ({**image(), "id": 7}, '"id" must be text.'),
        ({**image(), "outputs": [{"name": "x"}]}, 'The model has no output "x". It gives "logits" (FP32 [batch, 10]).'),
        ({**image(), "outputs": "logits"}, '"outputs" must be a list of objects with a "name", such as [{"name": '),
    ],
)  # fmt: skip
def test_a_wrong_body_is_explained(replica: Replica, body: Any, message: str) -> None:
    assert message in replica.refused(body)


def test_nan_in_json_names_the_way_that_carries_it(replica: Replica) -> None:
    error = replica.refused(b'{"inputs": [{"name": "image", "data": [NaN]}]}')
    assert error.endswith("JSON has no NaN and no Infinity; the binary tensor extension carries them.")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/v2/models/other/infer", 'There is no model "other" here. This deployment serves "digits".'),
        ("/v2/models/other", 'There is no model "other" here. This deployment serves "digits".'),
        ("/v2/models/digits/versions/7/infer", 'Model "digits" has no version "7" here. This replica runs 3.'),
        ("/v1/chat", "There is nothing at /v1/chat. Predictions: POST /v2/models/digits/infer."),
    ],
)
def test_an_unknown_path_is_404(replica: Replica, path: str, message: str) -> None:
    response = httpx.post(replica.url + path, json=image(), headers=bearer(SECRET))
    assert (response.status_code, response.json()["error"]) == (404, message)


def test_another_method_is_405(replica: Replica) -> None:
    response = replica.get("/v2/models/digits/infer")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert response.json()["error"] == "This path takes POST only."


def test_a_compressed_body_is_415(replica: Replica) -> None:
    response = replica.infer(b"\x1f\x8b", content_encoding="gzip")
    assert response.status_code == 415


def test_the_next_prediction_works(replica: Replica) -> None:
    assert replica.infer(image()).status_code == 200
