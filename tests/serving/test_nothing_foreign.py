"""What the service sends to a browser, and to its log, can hold no foreign markup, script, header or line."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("fastapi")
from fastapi.testclient import TestClient

import longread.serving
from longread.serving.app import PAGES, create_app
from longread.serving.settings import ServeSettings

HERE = Path(longread.serving.__file__).parent
HOSTILE = '</script><img src=x onerror=alert(1)>"\r\nx-injected: 1'


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    predictor = SimpleNamespace(scorer=SimpleNamespace(attention="dense", positions=9), problem_type="regression",
                                label_names=(HOSTILE,), cut=SimpleNamespace(truncation=None))  # fmt: skip

    async def predict(item: Any) -> Any:
        return SimpleNamespace(body={"label": HOSTILE}, tokens=1, tokenization_seconds=0.0, queue_seconds=0.0,
                               inference_seconds=0.0)  # fmt: skip

    service: Any = SimpleNamespace(predictor=predictor, pairs=False, needs_pairs=False, predict=predict,
                                   close=lambda: None, batcher=SimpleNamespace(waiting=0))  # fmt: skip
    with TestClient(create_app(lambda: service, ServeSettings())) as client:
        while client.get("/ready").status_code != 200:
            pass
        yield client


class Parts(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = dict(attrs)
        if tag in ("style", "iframe", "object", "base") or (tag == "script" and "src" not in names):
            self.faults.append(tag)
        self.faults += [name for name in names if name.startswith("on") or name == "style"]
        self.faults += [str(names[n]) for n in ("src", "href") if n in names and not str(names[n]).startswith("/")]


@pytest.mark.parametrize("name", sorted({name for name, _ in PAGES.values()}))
def test_a_page_keeps_what_its_policy_asks(name: str) -> None:
    """No script or style but in files of our own, and no text that becomes markup."""
    text = (HERE / name).read_text("utf-8")
    if name.endswith(".html"):
        parts = Parts()
        parts.feed(text)
        assert not parts.faults
    found = re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|Function\(|https?://", text)
    assert not found


@pytest.mark.parametrize("path", [*PAGES, "/ready", "/health", "/metrics", "/openapi.json", "/nothing"])
def test_every_answer_has_the_policy(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy == {
        "default-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")


def test_a_label_is_json_and_in_no_header(client: TestClient) -> None:
    for answer in (client.get("/ready"), client.post("/predict", json={"inputs": "a"})):
        assert answer.headers["content-type"] == "application/json"
        assert HOSTILE in (answer.json().get("label"), *answer.json().get("labels", ()))
        assert "x-injected" not in answer.headers and not any("script" in value for value in answer.headers.values())


@pytest.mark.parametrize("name", ["a\x7fb", "a\x1b[31m", "é", "x" * 129, ""])
def test_a_request_id_that_is_none_is_replaced(client: TestClient, name: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "longread.serving"):
        answer = client.get("/health", headers={"x-request-id": name.encode()})
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])
    assert not name or name not in caplog.text
    assert client.get("/health", headers={"x-request-id": "mine 1"}).headers["x-request-id"] == "mine 1"


def test_no_text_path_or_key_of_a_request_is_in_the_log(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        client.post("/predict", json={"inputs": "kumquat"})
        client.post("/predict", json={"kumquat": ["kumquat"]})
        client.post("/predict?kumquat=kumquat", content=b"kumquat", headers={"user-agent": "kumquat"})
        client.get("/kumquat")
    ours = [record for record in caplog.records if record.name.startswith("longread")]
    assert len(ours) == 4 and "kumquat" not in "".join(record.getMessage() for record in ours)
