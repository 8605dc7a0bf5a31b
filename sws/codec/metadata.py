"""Names, architecture, input and notes as a bounded JSON text; nothing of it is trusted.

What is read is bounded before it is used: the size of the text, the depth and kinds of its values,
the range of its numbers, the length and the characters of its names.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from sws.codec.errors import CorruptFileError
from sws.errors import InputError
from sws.network.quantized import Architecture, InputSpec, QuantizedNetwork

TEXT_BOUND = 1 << 20  # bytes of JSON
DEPTH_BOUND = 16  # of arrays and objects within each other
NAME_BOUND = 255  # bytes of a tensor's, class's or architecture's name, of a key
NOTES_BOUND = 4096  # bytes of all notes
RESERVED = "__metadata__"  # a safetensors file has another use for it

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_CONTROL = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def write_metadata(network: QuantizedNetwork) -> bytes:
    """The JSON text: [names, architecture, input, notes], without notes where there are none.

    Raises
    ------
    InputError
        If a name, the settings of the architecture or the notes are not what a file can hold.
    """
    model, spec = network.architecture, network.input
    content: list[Any] = [
        [tensor.name for tensor in network.tensors],
        model and [model.name, dict(model.settings)],
        spec and [spec.shape, spec.mean, spec.std, spec.classes],
    ]
    if network.notes:
        content.append(dict(network.notes))
    try:
        text = json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        data = text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"names, settings or notes are not plain JSON: {error}") from None
    if len(data) > TEXT_BOUND:
        raise InputError(f"names and settings take {len(data)} bytes; {TEXT_BOUND} fit")
    try:
        found = read_metadata(data)
    except CorruptFileError as error:
        raise InputError(str(error)) from None
    if model and found[1] is not None and found[1].settings != dict(model.settings):
        raise InputError("the architecture's settings are not plain JSON; use lists, string keys")
    return data


def read_metadata(
    text: bytes,
) -> tuple[list[str], Architecture | None, InputSpec | None, dict[str, str]]:
    """Names, architecture, input and notes of a JSON text.

    Raises
    ------
    CorruptFileError
        If it is not such a text, or beyond the bounds.
    """
    if _depth(text) > DEPTH_BOUND:
        raise CorruptFileError(f"the metadata is nested deeper than {DEPTH_BOUND}")
    try:
        content = json.loads(
            text.decode(), parse_int=_integer, parse_float=_real,
            parse_constant=_constant, object_pairs_hook=_object,
        )  # fmt: skip
        if type(content) is not list or len(content) not in (3, 4):
            raise CorruptFileError("the metadata is not an array of three or four")
        names, model, spec = content[:3]
        notes = content[3] if len(content) == 4 else {}
        return _names(names), _architecture(model), _input(spec), _notes(notes)
    except CorruptFileError:
        raise
    except (ValueError, TypeError, RecursionError) as error:
        raise CorruptFileError(f"the metadata cannot be read: {error}") from None


def _depth(text: bytes) -> int:
    depth = deepest = 0
    for bracket in re.findall(rb"[\[\]{}]", _STRING.sub(b"", text)):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _integer(digits: str) -> int:
    if len(digits) > 20 or not -(2**63) <= int(digits) < 2**63:
        raise CorruptFileError("the metadata holds an integer beyond 64 bits")
    return int(digits)


def _real(text: str) -> float:
    if not math.isfinite(float(text)):
        raise CorruptFileError("the metadata holds a number that is not finite")
    return float(text)


def _constant(text: str) -> float:
    raise CorruptFileError(f"the metadata holds {text}, which is not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise CorruptFileError("the metadata holds an object with two equal keys")
    for key in found:
        _check_text("a key", key)
    return found


def _check_text(what: str, text: Any) -> str:
    """A name: not empty, at most 255 bytes, nothing that a terminal would act on."""
    if type(text) is not str or not text:
        raise CorruptFileError(f"{what} is not a text, or empty")
    if _CONTROL.search(text):
        raise CorruptFileError(f"{what} holds a control character or half a surrogate pair")
    if len(text.encode()) > NAME_BOUND:
        raise CorruptFileError(f"{what} is longer than {NAME_BOUND} bytes")
    return text


def _names(content: Any) -> list[str]:
    if type(content) is not list:
        raise CorruptFileError("the metadata names no tensors")
    names = [_check_text("a tensor's name", name) for name in content]
    if len(set(names)) < len(names):
        raise CorruptFileError("tensor names repeat")
    if RESERVED in names:
        raise CorruptFileError(f"a tensor is named {RESERVED}")
    return names


def _architecture(content: Any) -> Architecture | None:
    if content is None:
        return None
    if type(content) is not list or len(content) != 2 or type(content[1]) is not dict:
        raise CorruptFileError("the architecture is not a name and settings")
    return Architecture(_check_text("the architecture's name", content[0]), content[1])


def _input(content: Any) -> InputSpec | None:
    if content is None:
        return None
    if type(content) is not list or [type(part) for part in content] != [list] * 4:
        raise CorruptFileError("the input is not four arrays")
    for name in content[3]:
        _check_text("a class's name", name)
    return InputSpec(*map(tuple, content))


def _notes(content: Any) -> Mapping[str, str]:
    if type(content) is not dict or not all(type(text) is str for text in content.values()):
        raise CorruptFileError("the notes are not texts by name")
    if sum(len((k + v).encode("utf-8", "replace")) for k, v in content.items()) > NOTES_BOUND:
        raise CorruptFileError(f"the notes take more than {NOTES_BOUND} bytes")
    for text in content.values():
        if re.search("[\ud800-\udfff]", text):
            raise CorruptFileError("the notes hold half a surrogate pair")
    return content
