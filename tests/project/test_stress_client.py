"""The hostile client of the stress run notices what it must, and the audit says what it did not look up."""

from __future__ import annotations

import json
import random
import runpy
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT)]

from stress import client, hostile  # noqa: E402


class _Clumsy(BaseHTTPRequestHandler):
    """A service that answers everything in one way."""

    answer = 200, b"{}"

    def do_POST(self) -> None:
        status, body = self.answer
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (500, b'{"error": "it failed"}', "answered 500"),
        (200, b"{}", "answered 200"),
        (422, b'{"detail": "wrong"}', "another shape of error"),
        (422, b'{"error": "wrong"}', "refused"),
    ],
)
def test_a_service_that_answers_wrongly_is_noticed(status: int, body: bytes, outcome: str) -> None:
    class Handler(_Clumsy):
        answer = status, body

    kind = list(hostile.KINDS).index("noise")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        case = client.hostile(server.server_port, kind, random.Random(1))
        server.shutdown()
    assert (case.outcome, case.held) == (outcome, outcome == "refused"), case


def test_a_wrong_answer_to_a_sound_request_is_noticed() -> None:
    answer = SimpleNamespace(label="a", probabilities={"a": 0.75, "b": 0.25})
    known = client.Known(["one text"], [answer])
    for p, label, right in ((0.75, "a", True), (0.75002, "a", False), (0.75, "b", False)):
        body = json.dumps({"label": label, "probabilities": {"a": p, "b": 1 - p}}).encode()
        assert (known.fault(body, [0], False) == "") == right


def test_hostile_requests_are_the_same_in_every_run() -> None:
    for make in hostile.KINDS.values():
        for seed in range(20):
            assert make(random.Random(seed)) == make(random.Random(seed))


@pytest.mark.parametrize(
    ("out", "status", "told"),
    [
        ("", 2, "cannot be had"),
        ('{"dependencies": [{"name": "a", "skip_reason": "not found"}]}', 2, "nothing was checked"),
        ('{"dependencies": [{"name": "a", "version": "1", "vulns": []}]}', 0, "0 advisories for 1 of 1"),
        ('{"dependencies": [{"name": "a", "version": "1", "vulns": []}, {"name": "b", "skip_reason": "x"}]}', 2, "b"),
        ('{"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"]}]}]}', 1,
         "a 1: PYSEC-1; mended in 2"),
    ],
)  # fmt: skip
def test_an_audit_that_looked_nothing_up_says_so(out: str, status: int, told: str) -> None:
    audit = runpy.run_path(str(ROOT / ".ci" / "audit.py"))
    found, lines = audit["verdict"](out, "last words\n")
    assert found == status and told in " ".join(lines)
