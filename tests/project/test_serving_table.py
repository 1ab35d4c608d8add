"""The table of services under load says what its records say."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "results")]

import services  # noqa: E402
from benchmarks.serving_table import CLIENTS, Load, percentile  # noqa: E402

from longread.records import write_json  # noqa: E402


def record(attention: str, *, load: float = 0.0) -> dict[str, Any]:
    """Our side answers 40 requests a second, the plain one 10, then 20; a sentence takes twice its time."""
    found: list[dict[str, Any]] = []
    for turn, (ours, plain) in enumerate(((40, 10), (40, 20))):
        for side, rate in (("ours", ours), ("plain", plain)):
            for clients in CLIENTS:
                latencies = [n / 1000 for n in range(1, 101)]
                found.append({"side": side, "turn": turn, "clients": clients, "requests": 2 * rate, "seconds": 2.0,
                              "errors": turn, "latencies": latencies})  # fmt: skip
    alone, together = ({"latencies": [seconds] * 20} for seconds in (0.01, 0.02))
    documents = {"requests": 3, "seconds": 2.0}
    pair = {"alone": alone, "together": together, "documents": documents}
    found.append({"side": "ours", "beside_documents": pair})
    machine = {"processor": "P", "cores": 2, "commit": "c" * 40, "load_at_start": load, "load_at_end": 0.0,
               "versions": {"torch": "2"}}  # fmt: skip
    told = {"operations_per_request": 2e9, "matmul_rate": {"float32": 1e11, "bfloat16": 4e11}}
    told |= {"largest_difference": {"ours": 1e-6, "plain": 0.0}}
    return {"attention": attention, "environment": machine, "found": found, **told}


def test_a_record_in_numbers() -> None:
    load = Load(record("dense"))
    assert load.sides == ["ours", "plain"] and not load.busy and Load(record("dense", load=0.5)).busy
    assert load.rates("plain", 32) == [10, 20] and load.times("ours") == 3.0  # the median of 4 and 2
    assert load.quantile("ours", 0.95) == pytest.approx(0.096) and load.errors("ours") == 3
    assert load.sentence("ours") == (0.01, 0.02, 1.5) and load.sentence("plain") is None
    assert load.most("float32") == 50 and load.most("bfloat16") == 200
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0


def test_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "RESULTS", tmp_path)
    assert services.table("") == "Not measured yet."
    write_json(tmp_path / "serving" / "dense.json", record("dense"))
    write_json(tmp_path / "serving" / "longformer.json", record("longformer", load=0.5))
    text = services.table("")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("| ") and "serve`" in line
    ]
    assert rows[0] == ["Dense", "`longread serve`", "40.0 / 40.0 / 40.0", "3.0", "51 / 96 / 100", "3"]
    assert rows[1][0] == "Longformer†", "beside other work"
    assert rows[2] == ["Dense", "`longread serve`", "10", "20", "2.0", "1.5"]
    assert "Dense: 50 in float32 or 200 in bfloat16" in text and "nan" not in text


def test_what_a_second_process_brings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "RESULTS", tmp_path)
    assert services.replicas("").startswith("Not measured yet: `python -m benchmarks.serving_replicas")
    rates = {"one process, one thread": 20, "one process, two threads": 30, "--workers 2": 36}
    found = [
        {"side": side, "clients": clients, "requests": 2 * rate, "seconds": 2.0, "errors": int(clients == 8)}
        for side, rate in rates.items()
        for clients in (8, 32)
    ]
    write_json(tmp_path / "serving" / "replicas.json", {"environment": record("dense")["environment"], "found": found})
    text = services.replicas("")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:2] == "| "]
    assert rows[2:4] == [["one process, one thread", "20.0", "20.0", "–", "1"],
                         ["one process, two threads", "30.0", "30.0", "–", "1"]]  # fmt: skip
    assert rows[4] == ["--workers 2", "36.0", "36.0", "1.8", "1"] and "†" not in text
