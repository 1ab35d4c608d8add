"""What does a base-size model cost on long reviews? IMDB, inference without fine-tuning: seconds, reviews and tokens.

Run:     python experiments/run.py inference_time --data-dir DIR
Expect:  an accuracy near .5, because the classifier is untrained: the time is the result.
2,500 test reviews, a stratified sample; the seconds for all 25,000 are that times ten, and called projected. The
weights are random in the checkpoints' own shapes, which costs the same time. The tokenizers are those of the
checkpoints, from DIR/tokenizers/.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from longread import build
from longread.config import RunConfig
from longread.errors import UserError
from longread.inference.run import evaluate
from longread.models.checkpoint import save_pretrained
from longread.records import Run, load_runs, rewrite_record
from longread.study.chain import Step
from longread.system.allocator import tune_allocator

RECORDS = ("imdb-inference",)
BASE = RunConfig(task="imdb", eval_rows=2_500, max_length=4096, precision="bfloat16")
# Published shapes: allenai/longformer-base-4096 and google/bigbird-roberta-base.
SHAPE = {
    "num_hidden_layers": 12, "hidden_size": 768, "num_attention_heads": 12, "max_length": 4096, "norm_position": "post",
    "pooling": "first", "type_vocab_size": 1, "num_labels": 2, "label_names": ("neg", "pos"),
}  # fmt: skip
OWN = {
    "longformer": {"vocab_size": 50_265, "position_offset": 2, "attention_window": 512, "head_activation": "tanh"},
    "bigbird": {"vocab_size": 50_358, "type_vocab_size": 2, "block_size": 64, "num_random_blocks": 3,
                "hidden_act": "gelu_tanh", "head_activation": "gelu_tanh", "dropout_before_norm": True},
}  # fmt: skip
TOKENIZERS = {"longformer": "longformer-base-4096", "bigbird": "bigbird-roberta-base"}


def steps() -> list[Step]:
    return [Step(replace(BASE, attention=name)) for name in OWN]


def run(config: RunConfig, on_event: Callable[[dict[str, Any]], None]) -> Run:
    """The record of one model, from OUT where it is already there: what `run.py` does in place of training."""
    for found in load_runs(config.out):
        if found.record["attention"] == config.attention and found.record["status"] == "ok":
            on_event({"event": "skipped", "run_id": found.record["run_id"]})
            return found
    place = (config.data_dir or Path()) / "tokenizers" / TOKENIZERS[config.attention]
    if config.data_dir is None or not place.is_dir():
        raise UserError(f"{place}: no tokenizer of {TOKENIZERS[config.attention]}; put its files there")
    tune_allocator()
    checkpoint = config.out / "cache" / f"random-{TOKENIZERS[config.attention]}"
    save_pretrained(build(config.attention, **(SHAPE | OWN[config.attention])), checkpoint)
    on_event({"event": "start"})
    done = evaluate(config, checkpoint, tokenizer=str(place), untrained_head=True)
    on_event({"event": "end", "status": done.record["status"], "error": done.record.get("error")})
    return named_for_its_shape(done, TOKENIZERS[config.attention])


def named_for_its_shape(run: Run, shape: str) -> Run:
    """The record says which shape was measured, in place of the folder that its random weights lay in."""
    run.record["init"] = run.record["config"]["init"] = f"random-weights/{shape}"
    rewrite_record(run)
    return run
