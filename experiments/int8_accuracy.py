"""What does int8 cost in accuracy? One fine-tuned model on SST-2's evaluation rows, in float32, bfloat16 and int8.

Run:     python experiments/run.py int8_accuracy --data-dir DIR
Expect:  int8 within .003 of float32.
all-MiniLM-L6-v2 after one epoch of 20,000 phrases; the same checkpoint is evaluated three times. Its seconds are in
inference_time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from experiments.inference_time import named
from experiments.recipes import INIT
from experiments.recorded import asks_for
from longread.config import RunConfig
from longread.inference.run import evaluate
from longread.records import Run, load_runs
from longread.study.chain import Step
from longread.system.allocator import tune_allocator
from longread.training.run import train

RECORDS = ()
# A sentence of SST-2 has fewer than 128 tokens.
TUNED = RunConfig(
    task="sst2", init=INIT, max_length=128, train_rows=20_000, epochs=1, batch_size=64, learning_rate=5e-5,
    precision="bfloat16",
)  # fmt: skip
SCORED = RunConfig(task="sst2", max_length=128)


def steps() -> list[Step]:
    return [Step(replace(SCORED, attention="dense", precision=p)) for p in ("float32", "bfloat16", "int8")]


def run(config: RunConfig, on_event: Callable[[dict[str, Any]], None]) -> Run:
    """The record of one precision: what `run.py` does in place of training. The model is fine-tuned once."""
    for found in load_runs(config.out):
        if asks_for(Step(config), found.record) and found.record["status"] == "ok":
            on_event({"event": "skipped", "run_id": found.record["run_id"]})
            return found
    tune_allocator()
    on_event({"event": "start"})
    place = {"out": config.out / "fine-tuned", "data_dir": config.data_dir, "threads": config.threads}
    tuned = train(replace(TUNED, attention="dense", **place))
    done = evaluate(config, tuned.directory / "checkpoint")
    on_event({"event": "end", "status": done.record["status"], "error": done.record.get("error")})
    return named(done, f"{INIT}, fine-tuned")
