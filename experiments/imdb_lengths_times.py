"""How fast do the models of imdb_lengths answer? Seconds for 1,000 test reviews, on an idle machine.

Run:     python experiments/run.py imdb_lengths_times --data-dir DIR, behind imdb_lengths (--out: beside its folder)
Expect:  Longformer and BigBird at 2,048 tokens take no longer than dense at 2,048. Four minutes of one core.
A time under other work is marked, and drawn nowhere: then delete out/studies/imdb_lengths_times and repeat it.
The reviews are a sample of test's own, so the accuracies are not those of imdb_lengths to the decimal; quote those.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from experiments.imdb_lengths import ROWS, transformers
from experiments.inference_time import named
from experiments.recorded import asks_for
from longread.config import RunConfig
from longread.errors import UserError
from longread.inference.run import evaluate
from longread.records import Run, load_runs
from longread.study.chain import Step
from longread.system.allocator import tune_allocator

RECORDS = ("imdb-lengths-times",)


def steps() -> list[Step]:
    return [Step(replace(step.config, eval_rows=1_000)) for step in transformers()]


def run(config: RunConfig, on_event: Callable[[dict[str, Any]], None]) -> Run:
    """The record of one trained model, from OUT where it is already there: what `run.py` does in place of training."""
    for found in load_runs(config.out):
        if asks_for(Step(config), found.record) and found.record["status"] == "ok":
            on_event({"event": "skipped", "run_id": found.record["run_id"]})
            return found
    trained = replace(config, eval_rows=ROWS.eval_rows)
    place = config.out.parent / "imdb_lengths"
    runs = [found for found in load_runs(place) if asks_for(Step(trained), found.record)]
    if not runs:
        raise UserError(f"{place}: no trained {config.attention} of {config.max_length} tokens; run imdb_lengths first")
    tune_allocator()
    on_event({"event": "start"})
    done = evaluate(config, runs[0].directory / "checkpoint")
    on_event({"event": "end", "status": done.record["status"], "error": done.record.get("error")})
    return named(done, "imdb-lengths")  # attention and length say which of its models
