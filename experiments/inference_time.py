"""What does a base-size model cost on long reviews? IMDB, inference without fine-tuning: seconds, reviews and tokens.

Run:     python experiments/run.py inference_time --data-dir DIR
Expect:  an accuracy near .5, because the classifier is untrained: the time is the result. In int8 Longformer takes less
         than the student study's 2,070 GPU seconds for all 25,000 reviews, on two cores.
Longformer and dense in float32, bfloat16 and int8 on a part of the test reviews, a stratified, seeded sample of 250;
Longformer and BigBird in bfloat16 on one of 2,500: the seconds for all 25,000 are those times a hundred or ten, and
called projected. Longformer in int8 on all 25,000, half an hour. The weights are random in the checkpoints' own shapes,
which costs the same time. The tokenizers are those of the checkpoints, from DIR/tokenizers/. What int8 costs in
accuracy: int8_accuracy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.recorded import asks_for
from longread import build
from longread.config import RunConfig
from longread.errors import UserError
from longread.inference.run import evaluate
from longread.models.checkpoint import save_pretrained
from longread.records import Run, load_runs, rewrite_record
from longread.study.chain import Step
from longread.system.allocator import tune_allocator

RECORDS = ("imdb-inference",)
# A part of the reviews small enough for three precisions.
PART = RunConfig(task="imdb", eval_rows=250, max_length=4096)
BASE = RunConfig(task="imdb", eval_rows=2_500, max_length=4096, precision="bfloat16")
ALL = replace(PART, eval_rows=25_000, attention="longformer", precision="int8")
# Published shapes: allenai/longformer-base-4096 and google/bigbird-roberta-base.
SHAPE = {
    "num_hidden_layers": 12, "hidden_size": 768, "num_attention_heads": 12, "max_length": 4096, "norm_position": "post",
    "pooling": "first", "type_vocab_size": 1, "num_labels": 2, "label_names": ("neg", "pos"),
}  # fmt: skip
OWN = {
    "dense": {"vocab_size": 50_265, "position_offset": 2, "head_activation": "tanh"},
    "longformer": {"vocab_size": 50_265, "position_offset": 2, "attention_window": 512, "head_activation": "tanh"},
    "bigbird": {"vocab_size": 50_358, "type_vocab_size": 2, "block_size": 64, "num_random_blocks": 3,
                "hidden_act": "gelu_tanh", "head_activation": "gelu_tanh", "dropout_before_norm": True},
}  # fmt: skip
TOKENIZERS = {"dense": "longformer-base-4096", "longformer": "longformer-base-4096", "bigbird": "bigbird-roberta-base"}


def steps() -> list[Step]:
    parts = [
        Step(replace(PART, attention=name, precision=precision))
        for precision in ("int8", "bfloat16", "float32")
        for name in ("longformer", "dense")
    ]
    return [*parts, Step(ALL), *(Step(replace(BASE, attention=name)) for name in ("longformer", "bigbird"))]


def run(config: RunConfig, on_event: Callable[[dict[str, Any]], None]) -> Run:
    """The record of one model, from OUT where it is already there: what `run.py` does in place of training."""
    for found in load_runs(config.out):
        if asks_for(Step(config), found.record) and found.record["status"] == "ok":
            on_event({"event": "skipped", "run_id": found.record["run_id"]})
            return found
    place = (config.data_dir or Path()) / "tokenizers" / TOKENIZERS[config.attention]
    if config.data_dir is None or not place.is_dir():
        raise UserError(f"{place}: no tokenizer of {TOKENIZERS[config.attention]}; put its files there")
    tune_allocator()
    checkpoint = config.out / "cache" / f"random-{config.attention}"
    save_pretrained(build(config.attention, **(SHAPE | OWN[config.attention])), checkpoint)
    on_event({"event": "start"})
    done = evaluate(config, checkpoint, tokenizer=str(place), untrained_head=True)
    on_event({"event": "end", "status": done.record["status"], "error": done.record.get("error")})
    if config.eval_rows == ALL.eval_rows:  # what an untrained classifier says of every review is not worth its room
        (done.directory / "predictions.parquet").unlink(missing_ok=True)
    shape = "roberta-base" if config.attention == "dense" else TOKENIZERS[config.attention]
    return named(done, f"random-weights/{shape}")


def named(run: Run, weights: str) -> Run:
    """The record says what was measured, in place of the folder that its weights lay in."""
    run.record["init"] = run.record["config"]["init"] = weights
    rewrite_record(run)
    return run
