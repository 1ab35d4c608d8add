"""Generated reviews of 128 to 16,384 tokens: how far does each mechanism carry what it learned on short ones?

Run:     python experiments/run.py generated_length
Expect:  counting words, as a linear model does, tells two reviews in three; a transformer that learned what takes a
         review back keeps it at 16,384 tokens if its attention finds one sentence among a thousand. With a second
         layer (up to 2,048 tokens): Longformer and BigBird beyond counting words if what their global tokens find needs
         it to reach the others. About 10 minutes a mechanism on one core, most of it at the longest.
From scratch nothing is learned on long reviews in such a time (2,000 of 2,048 tokens, three epochs: chance). So each
mechanism learns on short ones and goes on with longer and fewer from there; its checkpoint gets more positions on the
way (longread.convert). Dense attention stops at 2,048 tokens, for the sake of time.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from experiments.recipes import linear_models
from longread.config import RunConfig
from longread.study.chain import Step

RECORDS = ("reviews-length", "reviews-two-layers")
# Tokens, training rows, epochs, batch.
STAGES = ((128, 8000, 3, 32), (512, 2000, 2, 32), (2048, 1000, 2, 16), (16_384, 500, 2, 16))
MECHANISMS: dict[str, dict[str, Any]] = {
    "dense": {},
    "longformer": {"attention_window": 64},
    "bigbird": {"block_size": 8, "num_random_blocks": 1},
    "linformer": {"projection_size": 32},
    "performer": {},
}
BASE = RunConfig(task="reviews", eval_rows=500, learning_rate=2e-3)


def steps() -> list[Step]:
    counting = [
        step
        for length, *_ in STAGES
        for step in linear_models(replace(BASE, task=f"reviews:{length}", train_rows=2000))
    ]
    one = [step for name in MECHANISMS for step in ladder(name, 1, 2048 if name == "dense" else 16_384)]
    return [*counting, *one, *(step for name in MECHANISMS for step in ladder(name, 2, 2048))]


def ladder(name: str, layers: int, longest: int) -> list[Step]:
    """A mechanism's runs, the shortest text first; each begins where the one before ended."""
    rungs: list[Step] = []
    for length, rows, epochs, batch in STAGES:
        if length <= longest:
            config = replace(
                BASE, task=f"reviews:{length}", attention=name, max_length=length, train_rows=rows, epochs=epochs,
                batch_size=batch, num_hidden_layers=layers, **({} if rungs else MECHANISMS[name]),
            )  # fmt: skip
            rungs.append(Step(config, init=rungs[-1] if rungs else None))
    return rungs
