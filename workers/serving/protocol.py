"""Open Inference Protocol v2, REST: a request's body to arrays, and arrays to an answer's body.

JSON, and the binary tensor extension where the Inference-Header-Content-Length header is set. No transport here, so
that gRPC can share the checks.
"""

from __future__ import annotations

import math
import struct
import warnings
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import orjson

from workers.serving.messages import Refusal
from workers.serving.signature import Signature, TensorSpec

NUMPY = {
    "BOOL": np.bool_, "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64,
    "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64,
    "FP16": np.float16, "FP32": np.float32, "FP64": np.float64, "BYTES": np.object_,
}  # fmt: skip
DATATYPE = {np.dtype(kind): name for name, kind in NUMPY.items()}
JSON_NAMES = {bool: "true or false", str: "text", dict: "an object", list: "a list", type(None): "null"}
WHOLE = {int}
NUMBERS = ({float}, {int}, {int, float})
# 1e300 is no FP32: refused instead of infinite. A filter, because numpy.errstate costs each request a microsecond.
warnings.filterwarnings("error", "overflow encountered in cast", RuntimeWarning)


@dataclass(slots=True)
class Inference:
    """`outputs`: the names wanted, in order; `binary`: those of them that go back as raw bytes."""

    identifier: str | None
    feeds: dict[str, np.ndarray[Any, Any]]
    outputs: list[str]
    binary: frozenset[str] | set[str]


def decode(body: bytes, json_length: int | None, signature: Signature) -> Inference:
    """The arrays that `body` holds, checked against the signature. Raises Refusal (400).

    `json_length`: bytes of JSON at the start of the body when raw tensors follow it, else None.
    """
    content = _parse(body if json_length is None else body[:json_length])
    entries = content.get("inputs")
    if type(entries) is not list or not entries:
        raise Refusal(400, f'The body has no "inputs". Send {_example(signature)}.')
    raw = None if json_length is None else memoryview(body)[json_length:]
    feeds: dict[str, np.ndarray[Any, Any]] = {}
    for entry in entries:
        spec, shape = _declared(entry, signature)
        if spec.name in feeds:
            raise Refusal(400, f'Input "{spec.name}" is there twice. Send it once.')
        size = _parameters(entry).get("binary_data_size")
        if size is None:
            feeds[spec.name] = _from_json(spec, shape, entry.get("data"))
        else:
            taken, raw = _take(spec, size, raw)
            feeds[spec.name] = _from_bytes(spec, shape, taken)
    if len(feeds) < len(signature.inputs):
        name = next(name for name in signature.inputs if name not in feeds)
        raise Refusal(400, f'Input "{name}" is missing. The model wants {_wanted(signature.inputs)}.')
    if raw:
        raise Refusal(400, f"{len(raw)} bytes follow the last binary input. Check each binary_data_size.")
    return _selected(content, feeds, signature)


def encode(
    inference: Inference, arrays: list[np.ndarray[Any, Any]], model: str, version: str, signature: Signature
) -> tuple[bytes, int | None]:
    """The answer's body, and the length of its JSON when raw tensors follow it.

    Values that are not finite have no JSON: they are null there, and parameters.non_finite counts them by output.
    """
    outputs: list[dict[str, Any]] = []
    blobs: list[bytes] = []
    parameters: dict[str, Any] = {}
    answer: dict[str, Any] = {"model_name": model, "model_version": version}
    if inference.identifier is not None:
        answer["id"] = inference.identifier
    for name, array in zip(inference.outputs, arrays, strict=True):
        output: dict[str, Any] = {"name": name, "datatype": DATATYPE[array.dtype], "shape": array.shape}
        if name in inference.binary:
            blob = _to_bytes(array)
            output["parameters"] = {"binary_data_size": len(blob)}
            blobs.append(blob)
        else:
            output["data"] = array.ravel() if array.dtype != object else [_text(item) for item in array.ravel()]
        outputs.append(output)
        if name == "logits" and array.ndim == 2 and array.shape[1] == len(signature.classes):
            parameters["labels"] = [signature.classes[index] for index in array.argmax(axis=1).tolist()]
    if parameters:
        answer["parameters"] = parameters
    answer["outputs"] = outputs
    text = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    # A search for the word is far cheaper than a look at each value, and finds all that could be amiss.
    if b"null" in text and (counts := _non_finite(inference, arrays)):
        answer["parameters"] = {**parameters, "non_finite": counts}
        text = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    return (b"".join((text, *blobs)), len(text)) if blobs else (text, None)


def _parse(text: bytes) -> dict[str, Any]:
    try:
        content = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if not text:
            raise Refusal(400, "The body is empty. Send the inputs as JSON.") from None
        fix = ""
        if b"NaN" in text or b"Infinity" in text:
            fix = " JSON has no NaN and no Infinity; the binary tensor extension carries them."
        raise Refusal(400, f"The body is not JSON: {error}.{fix}") from None
    if type(content) is not dict:
        raise Refusal(400, 'The body must be a JSON object with "inputs".')
    return content


def _parameters(holder: dict[str, Any]) -> dict[str, Any]:
    parameters = holder.get("parameters")
    if parameters is None:
        return {}
    if type(parameters) is not dict:
        raise Refusal(400, '"parameters" must be an object.')
    return parameters


def _declared(entry: Any, signature: Signature) -> tuple[TensorSpec, list[int]]:
    if type(entry) is not dict or type(entry.get("name")) is not str:
        raise Refusal(400, f'Each input must be an object with a "name". Send {_example(signature)}.')
    name = entry["name"]
    spec = signature.inputs.get(name)
    if spec is None:
        raise Refusal(400, f'The model has no input "{name[:100]}". It wants {_wanted(signature.inputs)}.')
    datatype = entry.get("datatype")
    if datatype != spec.datatype:
        has = "no datatype" if datatype is None else f"datatype {str(datatype)[:100]}"
        raise Refusal(
            400, f'Input "{name}" has {has}; the model wants {spec.datatype}. Send "datatype": "{spec.datatype}".'
        )
    shape = entry.get("shape")
    if type(shape) is not list or (shape and (set(map(type, shape)) != WHOLE or min(shape) < 0)):
        has = "no shape" if shape is None else "a shape that is no list of whole numbers"
        raise Refusal(
            400, f'Input "{name}" has {has}; the model wants {spec.shape_text}. Send "shape": {spec.example_shape}.'
        )
    if not spec.fits(shape):
        shown = str(shape) if len(shape) <= 16 else f"of {len(shape)} axes"
        raise Refusal(
            400,
            f'Input "{name}" has shape {shown}; the model wants {spec.shape_text}. {spec.how_to_fit(shape)}'
            if len(shape) <= 16
            else f'Input "{name}" has a shape {shown}; the model wants {spec.shape_text}.',
        )
    if 0 in shape:
        raise Refusal(400, f'Input "{name}" has shape {shape}, which holds no values. Send at least one item.')
    return spec, shape


def _from_json(spec: TensorSpec, shape: list[int], data: Any) -> np.ndarray[Any, Any]:
    name = spec.name
    if type(data) is not list:
        has = "no data" if data is None else "data that is no list"
        raise Refusal(400, f'Input "{name}" has {has}. Send "data": [...] with {math.prod(shape)} values, row by row.')
    nested = [len(data)]
    while list in (kinds := set(map(type, data))):
        if len(kinds) > 1 or len(lengths := set(map(len, data))) > 1:
            raise Refusal(400, f'Input "{name}" has rows of different lengths. Each row of an axis must be as long.')
        nested.append(lengths.pop())
        data = list(chain.from_iterable(data))
    count = math.prod(shape)
    if len(data) != count:
        raise Refusal(
            400, f'Input "{name}" has {len(data)} values; shape {shape} holds {count}. Make data and shape agree.'
        )
    if len(nested) > 1 and nested != shape:
        raise Refusal(400, f'Input "{name}" has data nested as {nested[:16]} and shape {shape}. Make them agree.')
    _check_kinds(spec, kinds, data)
    if spec.datatype == "BYTES":
        return np.array(data, dtype=np.object_).reshape(shape)
    try:
        return np.array(data, dtype=NUMPY[spec.datatype]).reshape(shape)
    except (OverflowError, RuntimeWarning):
        worst = max(data, key=abs)
        raise Refusal(400, f'Input "{name}" holds {worst}, which {spec.datatype} has no room for.') from None


def _check_kinds(spec: TensorSpec, kinds: set[type], data: list[Any]) -> None:
    datatype = spec.datatype
    if datatype.startswith("FP"):
        if kinds in NUMBERS:
            return
        allowed, wants = {int, float}, "numbers"
    elif datatype == "BYTES":
        allowed, wants = {str}, "text"
    elif datatype == "BOOL":
        allowed, wants = {bool}, "true or false"
    else:
        if kinds == WHOLE:
            return
        # A whole number may come as 3.0, since some languages write all numbers so; 3.5 would lose its half.
        for position, item in enumerate(data):
            if type(item) is float and not item.is_integer():
                raise Refusal(
                    400, f'Input "{spec.name}" has {item} at position {position}; {datatype} is whole numbers.'
                )
        allowed, wants = {int, float}, "whole numbers"
    if not kinds <= allowed:
        position = next(index for index, item in enumerate(data) if type(item) not in allowed)
        has = JSON_NAMES.get(type(data[position]), "a number")
        raise Refusal(400, f'Input "{spec.name}" has {has} at position {position}; {datatype} is {wants}.')


def _take(spec: TensorSpec, size: Any, raw: memoryview | None) -> tuple[memoryview, memoryview]:
    if raw is None:
        raise Refusal(
            400, f'Input "{spec.name}" has binary_data_size, but the Inference-Header-Content-Length header is not set.'
        )
    if type(size) is not int or not 0 <= size <= len(raw):
        raise Refusal(400, f'Input "{spec.name}" has binary_data_size {str(size)[:40]}; {len(raw)} bytes are left.')
    return raw[:size], raw[size:]


def _from_bytes(spec: TensorSpec, shape: list[int], raw: memoryview) -> np.ndarray[Any, Any]:
    count = math.prod(shape)
    if spec.datatype == "BYTES":
        return _texts(spec, count, raw).reshape(shape)
    kind = np.dtype(NUMPY[spec.datatype])
    if len(raw) != count * kind.itemsize:
        raise Refusal(
            400,
            f'Input "{spec.name}" has {len(raw)} bytes; shape {shape} of {spec.datatype} is {count * kind.itemsize}.',
        )
    if spec.datatype == "BOOL":
        truths: np.ndarray[Any, Any] = np.frombuffer(raw, dtype=np.uint8) != 0
        return truths.reshape(shape)
    # A copy, because the tensor may begin at any byte of the body, and an unaligned array is slow or refused.
    return np.frombuffer(bytes(raw), dtype=kind).reshape(shape)


def _texts(spec: TensorSpec, count: int, raw: memoryview) -> np.ndarray[Any, Any]:
    items: list[str] = []
    offset = 0
    try:
        while offset < len(raw):
            (length,) = struct.unpack_from("<I", raw, offset)
            if offset + 4 + length > len(raw):
                raise ValueError
            items.append(str(raw[offset + 4 : offset + 4 + length], "utf-8"))
            offset += 4 + length
    except (struct.error, ValueError):
        raise Refusal(
            400, f'Input "{spec.name}" is broken at byte {offset}: each text is 4 bytes of length, then UTF-8.'
        ) from None
    if len(items) != count:
        raise Refusal(400, f'Input "{spec.name}" has {len(items)} texts; its shape holds {count}.')
    return np.array(items, dtype=np.object_)


def _selected(content: dict[str, Any], feeds: dict[str, np.ndarray[Any, Any]], signature: Signature) -> Inference:
    identifier = content.get("id")
    if identifier is not None and type(identifier) is not str:
        raise Refusal(400, '"id" must be text.')
    all_binary = _parameters(content).get("binary_data_output") is True
    wanted = content.get("outputs")
    if not wanted:
        names = list(signature.outputs)
        return Inference(identifier, feeds, names, frozenset(names) if all_binary else frozenset())
    if type(wanted) is not list or not all(type(entry) is dict and type(entry.get("name")) is str for entry in wanted):
        first = next(iter(signature.outputs))
        raise Refusal(400, f'"outputs" must be a list of objects with a "name", such as [{{"name": "{first}"}}].')
    binary = set()
    for entry in wanted:
        name = entry["name"]
        if name not in signature.outputs:
            raise Refusal(400, f'The model has no output "{name[:100]}". It gives {_wanted(signature.outputs)}.')
        if _parameters(entry).get("binary_data", all_binary) is True:
            binary.add(name)
    names = list(dict.fromkeys(entry["name"] for entry in wanted))
    return Inference(identifier, feeds, names, binary)


def _wanted(specs: dict[str, TensorSpec]) -> str:
    return ", ".join(f'"{spec.name}" ({spec.datatype} {spec.shape_text})' for spec in specs.values())


def _example(signature: Signature) -> str:
    entries = [{**spec.to_json(), "shape": spec.example_shape, "data": []} for spec in signature.inputs.values()]
    return orjson.dumps({"inputs": entries}).decode().replace("[]", "[...]")


def _to_bytes(array: np.ndarray[Any, Any]) -> bytes:
    if array.dtype != object:
        return array.tobytes()
    texts = [_text(item).encode() for item in array.ravel()]
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def _text(item: Any) -> str:
    return item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)


def _non_finite(inference: Inference, arrays: list[np.ndarray[Any, Any]]) -> dict[str, int]:
    counts = {
        name: int(array.size - np.isfinite(array).sum())
        for name, array in zip(inference.outputs, arrays, strict=True)
        if array.dtype.kind == "f"
    }
    return {name: count for name, count in counts.items() if count}
