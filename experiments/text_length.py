"""How much of a review is enough? The same model on its first 128, 256, … 4,096 tokens: accuracy and cost.

Run:     python experiments/run.py text_length --data-dir DIR
Expect:  most of the gain up to 512 tokens, the longest twentieth of the reviews apart; time grows with the tokens.
"""

from __future__ import annotations

from dataclasses import replace

from experiments.imdb_deeper import BASE
from longread.config import RunConfig


def configs() -> list[RunConfig]:
    return [replace(BASE, attention="linformer", max_length=length) for length in (128, 256, 512, 1024, 2048, 4096)]
