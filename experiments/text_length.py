"""How much of a review is enough? The same model on its first 128, 256, … 4,096 tokens: accuracy and cost.

Run:     python experiments/run.py text_length --data-dir DIR
Expect:  most of the gain up to 512 tokens, the longest twentieth of the reviews apart; time grows with the tokens.
Linformer of one layer from scratch, as in depth.py but for what was chosen later: half of the embedding dropped,
projections drawn at random.
"""

from __future__ import annotations

from dataclasses import replace

from experiments.depth import BASE
from longread.study.chain import Step

RECORDS = ("text-length",)


def steps() -> list[Step]:
    before = replace(BASE, attention="linformer", embedding_dropout=0.5)
    return [Step(replace(before, max_length=length)) for length in (128, 256, 512, 1024, 2048, 4096)]
