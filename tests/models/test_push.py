"""Checkpoints to the Hub, against one that is made up here: which files go there, and what is refused."""

from __future__ import annotations

import base64
import csv
import json
import shutil
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import huggingface_hub
import pytest
from huggingface_hub import errors

import longread
from longread.cli import main as cli
from longread.config import RunConfig
from longread.inference import origin
from longread.models import locate, push
from longread.training.run import train

SECRET = "a text of mine"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("push")
    with (place / "own.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["text", "label"], *[[f"{SECRET} {n}", "ab"[n % 2]] for n in range(40)]])
    config = RunConfig(task=str(place / "own.csv"), out=place, hidden_size=8, num_attention_heads=2, epochs=1,
                       max_length=16, threads=1)  # fmt: skip
    linear = RunConfig(task=config.task, out=place, attention="nbsvm")
    return {"network": train(config).directory, "linear": train(linear).directory}


class Hub:
    """Keeps what it is sent, as HfApi would send it."""

    def __init__(self) -> None:
        self.repositories: list[tuple[str, bool | None]] = []
        self.files: dict[str, bytes] = {}
        self.fails: Exception | None = None

    def create_repo(self, name: str, *, private: bool | None, exist_ok: bool) -> str:
        assert exist_ok
        if self.fails:
            raise self.fails
        self.repositories.append((name, private))
        return f"https://hub.example/{name}"

    def create_commit(self, name: str, operations: list[Any], *, commit_message: str) -> None:
        for one in operations:
            with one.as_file() as file:
                self.files[one.path_in_repo] = file.read()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub()
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda **_: made)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_of_nobody")
    monkeypatch.setattr(push, "no_hub", lambda: None)
    return made


@pytest.mark.parametrize("kind", ["network", "linear"])
def test_a_run_is_sent_without_its_records_and_read_back(
    kind: str, runs: dict[str, Path], hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs[kind], run)
    for name in ("state-7.safetensors", "notes.txt", ".env", "own.csv", "predictions.parquet"):
        (run / "checkpoint" / name).write_text(SECRET)
    assert cli.main(["push", str(run), "me/mail", "--private"]) == 0
    assert hub.repositories == [("me/mail", True)]
    own = {"README.md", "config.json", "model.safetensors", "longread_run.json", "longread_checksums.json"}
    others = {"vocabulary.json"} if kind == "linear" else {"tokenizer.json", "tokenizer_config.json"}
    assert own | others <= set(hub.files) <= own | others | {"special_tokens_map.json"}
    everything = b"".join(hub.files.values())
    assert SECRET.encode() not in everything and str(runs[kind].parents[1]).encode() not in everything
    assert b'longread.load("me/mail")' in hub.files["README.md"]
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    for name, content in hub.files.items():
        (snapshot / name).write_bytes(content)
    monkeypatch.setattr(locate, "_snapshot", lambda name, revision: snapshot)
    assert origin.folder_of("me/mail") == snapshot
    (theirs,), (ours,) = longread.load("me/mail").predict(["a film"]), longread.load(run).predict(["a film"])
    assert theirs == ours


def test_a_dry_run_names_the_files_and_needs_no_token(
    runs: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    assert cli.main(["push", str(runs["network"]), "me/mail", "--dry-run"]) == 0
    told = capsys.readouterr().err
    assert "model.safetensors" in told and "nothing was sent" in told
    assert cli.main(["push", str(runs["network"]), "me/mail"]) == 2
    assert "no token" in capsys.readouterr().err


def _status(code: int) -> Exception:
    import httpx2

    request = httpx2.Request("POST", "https://hub.example")
    return errors.HfHubHTTPError("no", response=httpx2.Response(code, request=request))


def damage(place: Path) -> None:
    with (place / "checkpoint" / "model.safetensors").open("r+b") as file:
        file.seek(-3, 2)
        file.write(b"abc")


def without_checksums(place: Path) -> None:
    (place / "checkpoint" / "longread_checksums.json").unlink()
    (place / "checkpoint" / "model.safetensors").write_bytes(b"no weights")


def own_card(place: Path) -> None:
    (place / "checkpoint" / "README.md").write_text("---\nmodel-index: 3\ntags: [\n---\n")


@pytest.mark.parametrize(
    ("change", "name", "fails", "status", "told"),
    [
        (damage, "me/mail", None, 2, "model.safetensors: is not what was saved"),
        (without_checksums, "me/mail", None, 2, "cannot be read as weights"),
        (own_card, "me/mail", None, 2, "its metadata is no model card's"),
        (None, "mail", None, 2, "write OWNER/NAME"),
        (None, "me/..//mail", None, 2, "write OWNER/NAME"),
        (None, "me/mail", _status(403), 2, "give a token that may write"),
        (None, "me/mail", _status(500), 1, "did not take it"),
        (None, "me/mail", ConnectionResetError("cut off"), 1, "not sent (cut off)"),
    ],
)
def test_nothing_is_sent_where_something_is_wrong(
    change: Callable[[Path], None] | None, name: str, fails: Exception | None, status: int, told: str,
    runs: dict[str, Path], hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run = tmp_path / "run"
    shutil.copytree(runs["network"], run)
    if change:
        change(run)
    hub.fails = fails
    assert cli.main(["push", str(run), name]) == status
    assert told in capsys.readouterr().err
    assert not hub.files


def test_without_a_network_it_says_so(
    runs: dict[str, Path], hub: Hub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push, "no_hub", lambda: "the Hugging Face Hub cannot be reached (no route)")
    assert cli.main(["push", str(runs["network"]), "me/mail"]) == 1
    assert "nothing was sent; the Hugging Face Hub cannot be reached" in capsys.readouterr().err


class HubOverHttp(BaseHTTPRequestHandler):
    """As much of the Hub's protocol as one commit of small files needs."""

    asked: ClassVar[list[str]] = []
    files: ClassVar[dict[str, bytes]] = {}

    def do_POST(self) -> None:
        self.asked.append(self.path)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.headers["Authorization"] == "Bearer hf_of_nobody"
        address = f"http://{self.headers['Host']}/me/mail"
        answer: dict[str, Any] = {"url": address, "commitUrl": f"{address}/commit/1", "commitOid": "1"}
        if "/preupload/" in self.path:
            names = [file["path"] for file in json.loads(body)["files"]]
            answer = {"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]}
        if "/commit/" in self.path:
            header, *files = map(json.loads, body.splitlines())
            assert header["value"]["summary"] == "Checkpoint of longread"
            self.files |= {file["value"]["path"]: base64.b64decode(file["value"]["content"]) for file in files}
        self.answer(answer)

    def do_GET(self) -> None:
        self.answer({})

    def answer(self, told: dict[str, Any]) -> None:
        data = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


def test_the_hubs_own_client_sends_it_over_http(
    runs: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = HTTPServer(("127.0.0.1", 0), HubOverHttp)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    monkeypatch.setattr(push, "no_hub", lambda: None)
    try:
        assert cli.main(["push", str(runs["network"]), "me/mail"]) == 0
    finally:
        server.shutdown()
        server.server_close()
    assert [path for path in HubOverHttp.asked if "validate" not in path] == [
        "/api/repos/create", "/api/models/me/mail/preupload/main", "/api/models/me/mail/commit/main",
    ]  # fmt: skip
    weights = (runs["network"] / "checkpoint" / "model.safetensors").read_bytes()
    assert HubOverHttp.files["model.safetensors"] == weights
    assert capsys.readouterr().out == f"{address}/me/mail\n"


@pytest.mark.parametrize("command", ["predict", "evaluate", "convert"])
def test_a_folder_of_runs_is_told_so(
    command: str, runs: dict[str, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = runs["network"].parents[1]
    more = {"predict": ["a film"], "convert": ["--attention", "dense", "--out", str(tmp_path / "new")]}.get(command, [])
    for place in (out, out / "runs"):
        assert cli.main([command, str(place), *more]) == 2
        told = capsys.readouterr().err
        assert f"{place}: a folder of runs; give one of them, such as {out / 'runs'}" in told
