"""What a request's body may be: its shape for the OpenAPI, and a reader that says in one line what is wrong."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from longread.serving.service import Item

Text = Annotated[str, StringConstraints(strict=True)]
PREDICT = '{"inputs": "a text"} or {"inputs": ["a text", "another"]}'
PAIR = '{"text": "a text", "pair": "its partner"}'
EXPLAIN = '{"text": "a text"}'
LONGEST_NAME = 40


class One(BaseModel):
    """A text, with its partner where the model compares two."""

    model_config = ConfigDict(extra="forbid")
    text: Text
    pair: Text | None = None


class PredictRequest(BaseModel):
    """`inputs`: a text, {"text": …, "pair": …}, or a list of either."""

    model_config = ConfigDict(extra="forbid")
    inputs: Text | One | Annotated[list[Text | One], Field(min_length=1)]


class ExplainRequest(BaseModel):
    """A text to explain, and the label to explain instead of the predicted one."""

    model_config = ConfigDict(extra="forbid")
    text: Text
    pair: Text | None = None
    label: Text | None = None


class Wrong(BaseModel):
    """Every answer that is no success, whatever its status."""

    error: Annotated[str, Field(description="one line: what is wrong, where, and what would be right")]


class Refused(Exception):
    """A request that is answered with a status and one line."""

    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers


@dataclass(frozen=True)
class ToExplain:
    text: str
    pair: str | None
    label: str | None


def read_json(body: bytes) -> Any:
    """Refused (400) where it is no JSON in UTF-8."""
    if not body.strip():
        raise Refused(400, "the body is empty; send JSON")
    try:
        return json.loads(body.decode("utf-8-sig"))
    except RecursionError:
        raise Refused(400, "the body is not JSON in UTF-8: it is nested too deeply") from None
    except ValueError as error:
        raise Refused(400, f"the body is not JSON in UTF-8: {error}") from None


def read_predict(body: Any) -> tuple[list[Item], bool]:
    """The texts, and whether they came as a list. Refused (422) says where the body is not as it should be."""
    if isinstance(body, list):
        raise Refused(422, f'the body is a list; put it under "inputs": {PREDICT}')
    fields = _fields(body, "the body", ("inputs",), PREDICT)
    inputs = fields["inputs"]
    if not isinstance(inputs, list):
        return [_item(inputs, "inputs")], False
    if not inputs:
        raise Refused(422, "inputs is an empty list; give it one text or more")
    return [_item(one, f"inputs[{place}]") for place, one in enumerate(inputs)], True


def read_explain(body: Any) -> ToExplain:
    """Refused (422) as `read_predict`."""
    fields = _fields(body, "the body", ("text", "pair", "label"), EXPLAIN)
    pair, label = (
        None if fields.get(name) is None else _text(fields[name], name, "a string") for name in ("pair", "label")
    )
    return ToExplain(_text(fields["text"], "text", "a string"), pair, label)


def _item(value: Any, where: str) -> Item:
    if isinstance(value, str):
        return Item(_text(value, where, "a string"))
    if not isinstance(value, dict):
        right = f"a text, or {PAIR}" + ("" if where.endswith("]") else ", or a list of them")
        raise Refused(422, f"{where} is {_kind(value)}; it must be {right}")
    fields = _fields(value, where, ("text", "pair"), PAIR)
    pair = fields.get("pair")
    text = _text(fields["text"], f"{where}.text", "a string")
    return Item(text, None if pair is None else _text(pair, f"{where}.pair", "a string"))


def _fields(value: Any, where: str, names: tuple[str, ...], right: str) -> dict[str, Any]:
    """An object with the first of `names`, and nothing beside them."""
    if not isinstance(value, dict):
        raise Refused(422, f"{where} is {_kind(value)}; send {right}")
    other = next((name for name in value if name not in names), None)
    if other is not None:
        # As JSON, so that half of a surrogate pair or a line break in it is written out.
        shown = json.dumps(other[:LONGEST_NAME])
        raise Refused(422, f"{where} has the key {shown}, which is not known here; send {right}")
    if names[0] not in value:
        raise Refused(422, f"{where} has no {json.dumps(names[0])}; send {right}")
    return value


def _text(value: Any, where: str, right: str) -> str:
    if not isinstance(value, str):
        raise Refused(422, f"{where} is {_kind(value)}; it must be {right}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise Refused(
            422, f"{where} holds half of a surrogate pair at position {error.start}; send whole characters"
        ) from None
    return value


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    kinds: dict[type, str] = {list: "a list", dict: "an object", str: "a string"}
    return kinds.get(type(value), "a number")
