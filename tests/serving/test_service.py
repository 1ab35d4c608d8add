"""The service as a client meets it: a process of its own, asked over a socket."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

import longread
from checkpoints import TALK, save_with_tokenizer

pytest.importorskip("fastapi")
from fastapi.testclient import TestClient
from pydantic import ValidationError

from longread.serving.app import create_app
from longread.serving.bodies import ExplainRequest, PredictRequest, Refused, read_explain, read_predict
from longread.serving.server import bind
from longread.serving.settings import ServeSettings

TEXTS = [" ".join(TALK[: 1 + n % 12] * (1 + n % 5)) for n in range(40)]
SHAPE = {"attention_window": 8, "max_length": 2048}
LIMITS = ["--max-texts", "4", "--max-body-bytes", "20000", "--max-concurrent", "64"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("serve")
    return save_with_tokenizer(place, "longformer", SHAPE, label_names=("bad", "<b>good"))


class Server:
    def __init__(self, checkpoint: Path, *more: str) -> None:
        order = [
            sys.executable,
            "-m",
            "longread",
            "serve",
            str(checkpoint),
            "--port",
            "0",
            "--threads",
            "1",
            *LIMITS,
            *more,
        ]
        self.process = subprocess.Popen(
            order, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        assert self.process.stderr is not None
        self.log: list[str] = []
        while not (found := re.search(r"http://127.0.0.1:(\d+)", (self.log or [""])[-1])):  # said when it is ready
            self.log.append(self.process.stderr.readline())
            assert self.log[-1], self.log
        self.port = int(found.group(1))
        self._reader = threading.Thread(target=lambda: self.log.extend(self.process.stderr or ()), daemon=True)
        self._reader.start()
        assert self.ask("GET", "/ready")[0] == 200, self.log

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any, Any]:
        """Status, body (JSON where it is) and headers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, sent, headers or {})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        is_json = "json" in answer.headers.get("content-type", "")
        return answer.status, json.loads(content) if is_json else content.decode(), answer.headers

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(30)
        self._reader.join(5)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return code


@pytest.fixture(scope="module")
def server(checkpoint: Path) -> Iterator[Server]:
    running = Server(checkpoint)
    yield running
    assert running.stop() == 0, running.log
    assert not any(word in line for word in ("warm", "funny") for line in running.log), "a text is in the log"
    lines = [json.loads(line) for line in running.log if line.startswith("{")]
    assert any(line["path"] == "/predict" and line["status"] == 200 and line["tokens"] > 0 for line in lines)


def test_answers_in_company_are_those_of_the_predictor(server: Server, checkpoint: Path) -> None:
    expected = longread.load(checkpoint).predict(TEXTS)
    with ThreadPoolExecutor(16) as clients:
        found = list(clients.map(lambda text: server.ask("POST", "/predict", {"inputs": text}), TEXTS))
    for (status, answer, headers), own in zip(found, expected, strict=True):
        assert status == 200 and answer["label"] == own.label
        assert answer["probabilities"] == pytest.approx(own.probabilities, abs=1e-5)
        assert answer["tokens"] == answer["tokens_in_text"] == int(headers["x-tokens"]) and not answer["truncated"]
        assert float(headers["x-total-time"]) >= float(headers["x-inference-time"]) > 0
    status, answers, _ = server.ask("POST", "/predict", {"inputs": [TEXTS[0], "", {"text": TEXTS[1]}]})
    assert status == 200 and [a["label"] for a in answers] == [expected[0].label, None, expected[1].label]
    assert "empty" in answers[1]["why"]


def test_a_long_text_says_how_much_of_it_was_read(server: Server) -> None:
    status, answer, _ = server.ask("POST", "/predict", {"inputs": "film " * 3000})
    assert status == 200 and answer["truncated"] and answer["tokens"] == 2048 < answer["tokens_in_text"]


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        (b"", 400, "empty"),
        (b"no json", 400, "JSON"),
        (b"\xff\xfe", 400, "UTF-8"),
        (b"[" * 10_000, 400, "JSON"),
        (b'{"inputs": ' + b"9" * 5000 + b"}", 400, "JSON"),
        ({"inputs": 7}, 422, "inputs is a number; it must be a text, or"),
        ({"inputs": None}, 422, "inputs is null"),
        ({"inputs": []}, 422, "inputs is an empty list; give it one text or more"),
        ({"inputs": ["a", None]}, 422, "inputs[1] is null; it must be a text, or"),
        ({"inputs": [["a", "b"]]}, 422, "inputs[0] is a list; it must be a text, or"),
        ({"texts": "a"}, 422, 'the body has the key "texts", which is not known here; send {"inputs":'),
        ({"text": "a"}, 422, 'the body has the key "text", which is not known here; send {"inputs":'),
        ({"inputs": "a", "more": 1}, 422, 'the key "more"'),
        ({"inputs": {"inputs": "a"}}, 422, 'inputs has the key "inputs", which is not known here; send {"text":'),
        ({"inputs": [{"pair": "a"}]}, 422, 'inputs[0] has no "text"'),
        ({"inputs": [{"text": None}]}, 422, "inputs[0].text is null; it must be a string"),
        ({"inputs": ["a"] * 5}, 422, "at most 4"),
        ({"inputs": {"text": "a", "pair": "b"}}, 422, "one text"),
        (b'{"inputs": "\\ud800"}', 422, "surrogate"),
        (b'{"\\ud800": 1}', 422, '"\\ud800"'),
        ({"inputs": "a" * 20_001}, 413, "20,000 bytes"),
        (["a"], 422, 'the body is a list; put it under "inputs": {"inputs":'),
        ({}, 422, 'the body has no "inputs"; send {"inputs":'),
        (7, 422, 'the body is a number; send {"inputs":'),
    ],
)
def test_wrong_requests_are_told_what_is_wrong(server: Server, body: Any, status: int, told: str) -> None:
    given, answer, headers = server.ask("POST", "/predict", json.dumps(body).encode() if body == {} else body)
    assert given == status and told in answer["error"], answer
    assert set(answer) == {"error"} and "\n" not in answer["error"]
    assert headers["x-request-id"] and "default-src 'self'" in headers["content-security-policy"]


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "told"),
    [
        ("GET", "/nothing", {}, 404, "there is no such path; there are POST /predict"),
        ("GET", "/../../etc/passwd", {}, 404, "no such path"),
        ("GET", "/%2e%2e/%2e%2e/etc/passwd", {}, 404, "no such path"),
        ("GET", "/page.js/../app.py", {}, 404, "no such path"),
        ("GET", "/predict", {}, 405, "this path does not take GET; send POST"),
        ("POST", "/health", {}, 405, "this path does not take POST; send GET"),
        ("POST", "/explain", {}, 400, "the body is empty"),
        ("POST", "/predict", {"content-encoding": "gzip"}, 415, "compressed"),
        ("POST", "/predict", {"content-length": "99999999"}, 413, "20,000 bytes"),
        ("POST", "/predict", {"content-length": "-1"}, 400, "not HTTP"),
        ("GE\tT", "/", {}, 400, "not HTTP"),
    ],
)
def test_every_refusal_has_one_shape(
    server: Server, method: str, path: str, headers: dict[str, str], status: int, told: str
) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
        lines = [f"{method} {path} HTTP/1.1", "host: x", *(f"{name}: {value}" for name, value in headers.items())]
        client.sendall("\r\n".join([*lines, "", ""]).encode())
        answer = http.client.HTTPResponse(client)
        answer.begin()
        body = json.loads(answer.read())
    assert answer.status == status and set(body) == {"error"} and told in body["error"], body
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_explain_takes_one_text(server: Server) -> None:
    for body, told in (
        ({"inputs": "a"}, 'the body has the key "inputs", which is not known here; send {"text":'),
        ({"text": ["a"]}, "text is a list; it must be a string"),
        ({"text": "a", "label": 1}, "label is a number; it must be a string"),
        ({"text": "a", "pair": "b"}, "one text"),
        ({"text": "a", "label": "fine"}, "fine"),
    ):
        status, answer, _ = server.ask("POST", "/explain", body)
        assert status == 422 and told in answer["error"], answer


def test_the_interface_says_what_is_answered(server: Server) -> None:
    """One shape of errors, no reference that leads nowhere, and bodies that are read as they are described."""
    interface = server.ask("GET", "/openapi.json")[1]
    text = json.dumps(interface)
    for reference in re.findall(r'"\$ref": "#/([^"]*)"', text):
        place: Any = interface
        for name in reference.split("/"):
            place = place[name]
    for path in ("/predict", "/explain"):
        answers = interface["paths"][path]["post"]["responses"]
        assert {"400", "408", "413", "415", "422", "429", "500", "503", "504"} <= set(answers)
        shapes = {json.dumps(answer["content"]) for status, answer in answers.items() if status != "200"}
        assert shapes == {'{"application/json": {"schema": {"$ref": "#/components/schemas/Wrong"}}}'}
    assert set(interface["components"]["schemas"]["Wrong"]["properties"]) == {"error"}
    assert "HTTPValidationError" not in text and "detail" not in text


def test_bodies_are_read_as_they_are_described() -> None:
    """The reader refuses what the described shape refuses, and nothing else."""
    shapes: list[Any] = [None, True, 1, 1.5, "a", [], ["a"], ["a", None], [["a"]], {}, {"text": "a"}, [{"text": "a"}],
                         {"text": "a", "pair": None}, {"text": "a", "pair": "b"}, {"text": "a", "pair": 1},
                         {"text": None}, {"pair": "b"}, {"text": "a", "label": "b"},
                         {"text": "a", "other": 1}]  # fmt: skip
    for read, model, bodies in (
        (read_predict, PredictRequest, [*shapes, *({"inputs": one} for one in shapes), {"inputs": "a", "more": 1}]),
        (read_explain, ExplainRequest, shapes),
    ):
        for body in bodies:
            try:
                model.model_validate(body)
                described = True
            except ValidationError:
                described = False
            try:
                read(body)
                taken = True
            except Refused:
                taken = False
            assert taken == described, body


def test_while_the_model_is_loaded_and_where_it_fails_it_says_so() -> None:
    going = threading.Event()

    def load() -> Any:
        going.wait(10)
        raise RuntimeError("no such file")

    with TestClient(create_app(load, ServeSettings()), raise_server_exceptions=False) as client:
        early = client.post("/predict", json={"inputs": "a"})
        assert early.status_code == 503 and early.json() == {"error": "the model is being loaded"}
        assert early.headers["retry-after"] == "1"
        assert client.get("/ready").status_code == 503 and client.get("/health").status_code == 200
        going.set()


def test_explain_pages_metrics_and_ids(server: Server) -> None:
    status, answer, headers = server.ask("POST", "/explain", {"text": TEXTS[11]}, {"x-request-id": "mine-1"})
    assert status == 200 and headers["x-request-id"] == "mine-1" and len(answer["tokens"]) > 3
    assert server.ask("POST", "/explain", {"text": "a", "label": "fine"})[0] == 422
    for path, part in (("/", "Classify"), ("/docs", "paths"), ("/page.js", "fetch"), ("/openapi.json", None)):
        status, content, _ = server.ask("GET", path)
        assert status == 200 and (part is None or part in content)
    assert server.ask("GET", "/health")[:2] == (200, {"status": "ok"})
    assert server.ask("POST", "/predict", {"inputs": 3})[0] == 422
    metrics = server.ask("GET", "/metrics")[1]
    assert (
        'longread_requests_total{path="/predict",status="422"}' in metrics
        and "longread_queue_seconds_bucket" in metrics
    )


def test_a_client_that_leaves_stops_no_other(server: Server) -> None:
    body = json.dumps({"inputs": "film " * 1000}).encode()
    for _ in range(8):
        with socket.create_connection(("127.0.0.1", server.port)) as leaving:
            leaving.sendall(b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    assert server.ask("POST", "/predict", {"inputs": TEXTS[0]})[0] == 200


def test_what_was_taken_is_answered_before_the_end(checkpoint: Path) -> None:
    running = Server(checkpoint)
    with ThreadPoolExecutor(8) as clients:
        asked = [clients.submit(running.ask, "POST", "/predict", {"inputs": "film " * 1500}) for _ in range(8)]
        time.sleep(0.1)
        assert running.stop() == 0, running.log
        answered = []
        for one in asked:
            try:
                answered.append(one.result()[0])
            except (ConnectionError, http.client.HTTPException):
                pass  # it came after the end
    assert answered and set(answered) <= {200, 503}, answered


def test_accepted_connections_send_small_answers_at_once() -> None:
    """asyncio sets TCP_NODELAY on sockets that say their protocol; without it every answer takes 40 ms more."""
    with bind(ServeSettings(port=0)) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_a_port_that_is_taken_and_a_model_that_is_not_there_are_told(checkpoint: Path) -> None:
    from longread.cli.main import main

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["serve", str(checkpoint), "--port", str(taken.getsockname()[1])]) == 2
    assert main(["serve", str(checkpoint), "--timeout", "0"]) == 2


@pytest.mark.parametrize(
    ("place", "told"),
    [("nothing", "no such directory"), ("empty", "has no config.json"), ("model.onnx", "not an ONNX file"),
     ("model.pt2", "torch.export archive")],
)  # fmt: skip
def test_what_is_no_checkpoint_is_one_line(tmp_path: Path, place: str, told: str) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("model.onnx", "model.pt2"):
        (tmp_path / name).write_bytes(b"x")
    order = [sys.executable, "-m", "longread", "serve", str(tmp_path / place), "--port", "0"]
    done = subprocess.run(order, capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"}, timeout=120)
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("longread: ") and told in done.stderr


@pytest.mark.slow
def test_workers_share_a_port_and_a_tally_and_end_together(checkpoint: Path) -> None:
    running = Server(checkpoint, "--workers", "2")
    try:
        deadline = time.monotonic() + 60
        while not (both := [line for line in running.log if "2 workers are ready" in line]):
            assert time.monotonic() < deadline, running.log
            time.sleep(0.05)
        assert re.search(r"about \d+ MB, \d+ MB each", both[0])
        for text in TEXTS[:6]:
            assert running.ask("POST", "/predict", {"inputs": text})[0] == 200
        assert "longread_texts_total 6.0" in running.ask("GET", "/metrics")[1]
        assert "longread_waiting 0.0" in running.ask("GET", "/metrics")[1]
        children = psutil.Process(running.process.pid).children()
        workers = [child for child in children if any("spawn_main" in part for part in child.cmdline())]
        assert len(workers) == 2
        workers[0].kill()
        while not any("another one begins" in line for line in running.log):
            assert time.monotonic() < deadline, running.log
            time.sleep(0.05)
        assert running.ask("POST", "/predict", {"inputs": TEXTS[0]})[0] == 200
    finally:
        assert running.stop() == 0, running.log
    assert not any(psutil.pid_exists(worker.pid) and worker.is_running() for worker in workers)
