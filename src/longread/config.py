"""One run: its settings as one value, and which of them are part of its name.

A mechanism's own settings are `RunConfig.options`; its class declares them, and they are checked against it when the
run is resolved (training/resolve.py).
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from longread.checks import Natural, check_fields
from longread.data.config import Cut, DataConfig
from longread.settings import Settings, TrainingSettings

BASELINES = ("majority", "tfidf", "nbsvm")
# What a linear baseline uses; nothing else of a configuration is in its name.
BASELINE_SETTINGS = ("task", "attention", "train_rows", "eval_rows", "sample_seed", "validation_fraction",
                     "text_columns", "label_columns", "label_separator", "problem_type", "encoding", "delimiter",
                     "eval_file", "tuning_fraction")  # fmt: skip
# What it uses where it is asked for; at its default it is no part of the name.
BASELINE_CHOICES = ("class_weights", "calibrate", "choose_threshold", "selection_fraction")
# What shapes a new model: a checkpoint to begin from brings its own.
SCRATCH_SETTINGS = ("num_hidden_layers", "hidden_size", "num_attention_heads", "head_dim", "intermediate_size",
                    "norm_position", "vocab_size", "lowercase")  # fmt: skip
# Where a run happens and what it keeps do not change what it computes: they are no part of its name.
OUTSIDE_THE_NAME = ("data_dir", "out", "seed", "save_seconds", "shard", "stream", "workers")
# Fields that came later are left out at their default, so that older records keep their names.
LATER_FIELDS: dict[str, Any] = {
    "fill_rows": False, "new_weights_rate": 1.0, "average_weights": 0.0, "attention_dropout": 0.0, "calibrate": False,
    "chunk_stride": 0, "eval_precision": "float32",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, init=False)
class RunConfig(Settings):
    """One run. UserError for a value of the wrong type or out of range.

    `options` are the mechanism's own settings, those that were given; they may also stand beside the other fields:
    `RunConfig(attention="longformer", attention_window=32)`.
    """

    task: str = "reviews"
    attention: str = "dense"
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    num_hidden_layers: Natural = 1
    seed: Natural = 0

    def __init__(self, *, options: Mapping[str, Any] | None = None, **values: Any) -> None:
        values = {name: _plain(name, value) for name, value in values.items()}
        fields = {f.name: f for f in dataclasses.fields(self) if f.name != "options"}
        own = dict(options or {}) | {name: value for name, value in values.items() if name not in fields}
        for name, described in fields.items():
            object.__setattr__(self, name, values.get(name, described.default))
        object.__setattr__(self, "options", {name: _plain(name, v) for name, v in own.items() if v is not None})
        check_fields(self)

    @property
    def is_baseline(self) -> bool:
        return self.attention in BASELINES

    @property
    def cut(self) -> Cut:
        """What is read of long texts. UserError for a stride without chunks."""
        return Cut(truncation=self.truncation, chunk_stride=self.chunk_stride)

    @property
    def keeps_best(self) -> bool:
        """Whether the epoch that is kept is chosen on rows held out of train."""
        return self.choose_epoch == "best" or self.choose_by is not None

    @property
    def decides(self) -> bool:
        """Whether a temperature or thresholds are chosen on rows held out of train."""
        return self.calibrate or self.choose_threshold is not None

    def data_config(self) -> DataConfig:
        """What the data room has to know of this run."""
        same = {f.name for f in dataclasses.fields(DataConfig)} - {"cache", "selection_fraction", "labels_optional"}
        chosen = self.keeps_best or self.patience is not None or self.decides
        return DataConfig(
            **{name: getattr(self, name) for name in same},
            selection_fraction=self.selection_fraction if chosen else None,
            cache=self.out / "cache",
        )

    def named(self) -> dict[str, Any]:
        """The part that decides what is computed, flat, for the record and the run's name; open fields are absent.

        Of a resolved configuration it holds what was resolved: the device, the precision, the token budget.
        """
        kept = {k: v for k, v in self.to_json().items() if v is not None and k not in OUTSIDE_THE_NAME}
        kept = {k: v for k, v in kept.items() if k not in LATER_FIELDS or v != LATER_FIELDS[k]}
        if self.init != "scratch":  # the checkpoint brings its shape: the record's `encoder` has it
            kept = {k: v for k, v in kept.items() if k not in SCRATCH_SETTINGS}
        if self.is_baseline:  # a linear model has rows, and none of a transformer's settings
            chosen = BASELINE_CHOICES if self.decides else ("class_weights",)
            usual = TrainingSettings()
            told = {k for k in chosen if k == "selection_fraction" or getattr(self, k) != getattr(usual, k)}
            kept = {k: v for k, v in kept.items() if k in BASELINE_SETTINGS or k in told}
        return kept

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON knows them, the mechanism's settings among them."""
        flat = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "options"}
        flat |= self.options
        return {k: str(v) if isinstance(v, Path) else list(v) if isinstance(v, tuple) else v for k, v in flat.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> RunConfig:
        """The inverse of `to_json`, and of `named` where nothing was left out; a mechanism's settings lie flat."""
        return cls(**values)


def _plain(name: str, value: Any) -> Any:
    """Lists as tuples, folders as Paths, other paths as text: one form of each value, however it was given."""
    if isinstance(value, list):
        return tuple(value)
    if name in ("data_dir", "out") and isinstance(value, str):
        return Path(value)
    if name not in ("data_dir", "out") and isinstance(value, os.PathLike):
        return os.fspath(value)
    return value
