"""Generated reviews of 128 to 16,384 tokens: how far does each mechanism carry what it learned on short ones?

Run:     python experiments/run.py reviews_length --data-dir DIR
Expect:  counting words, as a linear model does, tells two reviews in three; a transformer that learned what takes a
         review back keeps it at 16,384 tokens if its attention finds one sentence among a thousand. About 10 minutes
         a mechanism on one core, most of it at the longest.
From scratch nothing is learned on long reviews in such a time (2,000 of 2,048 tokens, three epochs: chance). So each
mechanism learns on short ones and goes on with longer and fewer from there; its checkpoint gets more positions on the
way (longread.convert). Dense attention stops at 2,048 tokens, for the sake of time.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from longread.config import BASELINES, RunConfig
from longread.records import Run
from longread.study.compare import run_all

# Tokens, training rows, epochs, batch.
STAGES = ((128, 8000, 3, 32), (512, 2000, 2, 32), (2048, 1000, 2, 16), (16_384, 500, 2, 16))
MECHANISMS: dict[str, dict[str, Any]] = {
    "dense": {},
    "longformer": {"attention_window": 64},
    "bigbird": {"block_size": 8, "num_random_blocks": 1},
    "linformer": {"projection_size": 32},
    "performer": {},
}
LONGEST_DENSE = 2048
CHECKPOINTS = Path("out/reviews-length")  # where the next length finds what the shorter one taught
BASE = RunConfig(task="reviews", eval_rows=500, learning_rate=2e-3)


def configs() -> list[RunConfig]:
    counting = [
        replace(BASE, task=f"reviews:{length}", attention=name, train_rows=2000)
        for length, *_ in STAGES
        for name in BASELINES
    ]
    return [*counting, *(config for name in MECHANISMS for config in ladder(name))]


def ladder(name: str, layers: int = 1) -> list[RunConfig]:
    """A mechanism's runs, the shortest text first; each begins where the one before ended."""
    before, steps = "scratch", []
    for length, rows, epochs, batch in STAGES:
        if name == "dense" and length > LONGEST_DENSE:
            break
        config = replace(
            BASE, task=f"reviews:{length}", attention=name, max_length=length, train_rows=rows, epochs=epochs,
            batch_size=batch, num_hidden_layers=layers, init=before,
            **(MECHANISMS[name] if before == "scratch" else {}),
        )  # fmt: skip
        steps.append(config)
        before = str(_taught(config))
    return steps


def _taught(config: RunConfig) -> Path:
    layers = "" if config.num_hidden_layers == 1 else f"-{config.num_hidden_layers}-layers"
    return CHECKPOINTS / f"{config.attention}{layers}-{config.max_length}"


def run(config: RunConfig, on_event: Callable[[dict[str, Any]], None]) -> Run:
    """Trains, and lays the checkpoint where the next length looks for it."""
    (done,) = run_all([config], lambda _, event: on_event(event))
    if (done.directory / "checkpoint").is_dir():
        shutil.copytree(done.directory / "checkpoint", _taught(config), dirs_exist_ok=True)
    return done
