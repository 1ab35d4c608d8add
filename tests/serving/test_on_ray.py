"""The service as a Ray Serve deployment: replicas answer as the model does and have the service's limits."""

from __future__ import annotations

import http.client
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from test_service import checkpoint as checkpoint  # the fixture

import longread
from longread.errors import UserError

pytest.importorskip("ray.serve", reason="Ray Serve is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")


def test_a_name_that_is_none_is_refused() -> None:
    from longread.serving.ray import application

    with pytest.raises(UserError, match="worker: give checkpoint, and any of tokens_per_batch"):
        application({"checkpoint": "here", "worker": "2"})
    with pytest.raises(UserError, match="checkpoint is missing"):
        application({"replicas": 2})


@pytest.mark.slow
def test_two_replicas_answer_as_the_model(checkpoint: Path) -> None:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray import serve

    from longread.serving.ray import application

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray.init(address="local", log_to_driver=False, include_dashboard=False)
    try:
        serve.start(http_options={"port": port})
        serve.run(application({"checkpoint": str(checkpoint), "replicas": "2", "cpus": "0.5", "max_texts": "4"}))
        (expected,) = longread.load(checkpoint).predict(["a warm film"])
        for _ in range(4):
            status, body = ask(port, {"inputs": "a warm film"})
            assert status == 200
            assert body["probabilities"] == pytest.approx(expected.probabilities, abs=1e-6)
        status, body = ask(port, {"inputs": ["film"] * 5})
        assert (status, body["error"]) == (422, "inputs has 5 texts; send at most 4 at once")
    finally:
        serve.shutdown()
        ray.shutdown()


def ask(port: int, body: Any) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/predict", json.dumps(body), {"content-type": "application/json"})
    answer = connection.getresponse()
    return answer.status, json.load(answer)
