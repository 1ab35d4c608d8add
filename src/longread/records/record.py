"""What `run.json` holds: one dataclass for every kind of run, and the only place that builds a record.

Reading gives plain dictionaries (`Run.record`): records of earlier versions have fewer fields, and stay readable.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from longread.problems import ProblemType

SCHEMA = 1
Kind = Literal["train", "evaluate", "distill", "pretrain", "benchmark"]
Status = Literal["ok", "diverged", "out_of_memory", "interrupted", "error"]
KINDS: tuple[str, ...] = get_args(Kind)
STATUSES: tuple[str, ...] = get_args(Status)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, kw_only=True)
class SplitRecord:
    """Which rows were read."""

    name: str
    split: str
    rows: int
    fingerprint: str  # a hash of its rows
    rows_of_split: int | None = None  # of the whole split, where these are a sample of it
    pairs: bool | None = None  # each row is two texts
    text_columns: tuple[str, ...] | None = None  # of a table, where the texts stand; None: no table, or not known


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The rows of a run; `selection` was held out of `train` to choose an epoch."""

    label_names: tuple[str, ...]
    train: SplitRecord | None = None
    eval: SplitRecord | None = None
    selection: SplitRecord | None = None
    tokens_per_row: Mapping[str, float] | None = None  # of train: mean, median, longest
    problem_type: ProblemType | None = None  # None in records from before there were several: one class for each row
    streamed: bool | None = None  # True: texts and tokens stayed in files; None: they were in memory


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What a result depends on beside its configuration."""

    device: str
    processor: str
    threads: int  # of each process
    precision: str
    torch: str
    processes: int = 1
    cores: int | None = None
    python: str | None = None
    platform: str | None = None
    allocator: str | None = None
    longread: str | None = None
    commit: str | None = None
    dirty: bool | None = None  # the source had changes that no commit has
    load_at_start: float | None = None  # in cores that other programs kept busy
    load_at_end: float | None = None


@dataclass(frozen=True, kw_only=True)
class Ancestor:
    """An earlier run that a run's weights come from: `role` is init, teacher or distillation.

    Runs that share an ancestor are not independent draws, and its seconds are part of what the result cost.
    """

    role: Literal["init", "teacher", "distillation"]  # init, teacher or distillation
    run_id: str | None  # None: made by an earlier version, which did not record such runs
    kind: Kind
    seconds: float


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run, whether it ended well or not. What a run does not have is None, and absent from the file."""

    run_id: str  # a hash of all that decides the result
    kind: Kind  # train, evaluate, distill, pretrain, benchmark
    status: Status  # ok, diverged, out_of_memory, interrupted, error
    task: str
    attention: str  # a mechanism, or tfidf or nbsvm
    init: str  # "scratch", or where the first weights came from
    config: Mapping[str, Any]  # resolved: nothing in it is left to the machine
    seed: int
    error: str | None = None  # why it did not end well
    metrics: Mapping[str, float] = field(default_factory=dict)
    per_class: Mapping[str, Mapping[str, float]] | None = None  # of each class: precision, recall, f1, support
    confusion_matrix: tuple[tuple[int, ...], ...] | None = None  # by true, then by predicted label
    calibration: Mapping[str, Any] | None = None  # expected calibration error and its bins (inference/calibration.py)
    by_length: Mapping[str, Any] | None = None  # accuracy of shorter and longer texts (inference/slices.py)
    decision: Mapping[str, Any] | None = None  # temperature and thresholds, chosen on held-out rows
    train_seconds: float | None = None
    eval_seconds: float | None = None  # to classify the evaluation rows
    cpu_seconds: float | None = None
    samples_per_second: float | None = None  # of the evaluation
    tokens_per_second: float | None = None
    peak_memory_bytes: int | None = None
    memory_kind: str | None = None  # how the memory was measured
    num_parameters: int | None = None
    truncated_fraction: float | None = None  # of the rows: longer than max_length
    tokens_per_micro_batch_that_fit: int | None = None  # fewer than the config's, once memory did not suffice
    padded_fraction: float | None = None  # of the computed positions
    effective_attention: Mapping[str, float] | None = None  # which attention really ran, by fraction of the tokens
    kernels: tuple[str, ...] | None = None  # of torch's for packed sequences that ran; None on a processor
    dataset: Dataset | None = None
    environment: Environment | None = None
    lineage: tuple[Ancestor, ...] = ()  # nearest first
    mechanism: Mapping[str, str | None] | None = None  # how reports name and draw the attention: title, color
    encoder: Mapping[str, Any] | None = None  # the model's whole configuration
    conversion: Mapping[str, Any] | None = None  # what `convert` did to the initial weights
    distillation: Mapping[str, Any] | None = None  # kind distill: the distance from the teacher, before and after
    pretraining: Mapping[str, Any] | None = None  # kind pretrain: rows and tokens; what it came to is in metrics
    faithfulness: Mapping[str, Any] | None = None  # of explanations: experiments/explain_faithfulness.py
    chosen_epoch: int | None = None
    head_is_untrained: bool | None = None
    samples: tuple[Mapping[str, Any], ...] | None = None  # kind benchmark: every repeat at every length
    matmul_flops_per_second: float | None = None
    contents: Mapping[str, str] | None = None  # checksums of what lies beside the record (records/seal.py)
    created: str = field(default_factory=_now)
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        assert self.kind in KINDS, self.kind
        assert self.status in STATUSES, self.status
        assert (self.error is None) == (self.status == "ok"), "a run that did not end well says why"

    def to_json(self) -> dict[str, Any]:
        """Plain values as JSON reads them back. ValueError for NaN and infinity, which JSON does not have."""
        values = {name: value for name, value in asdict(self).items() if value is not None or name == "error"}
        for room in ("dataset", "environment"):
            if room in values:
                values[room] = {name: value for name, value in values[room].items() if value is not None}
        if self.dataset is not None:
            for name in ("train", "eval", "selection"):
                if name in values["dataset"]:
                    split = values["dataset"][name]
                    values["dataset"][name] = {k: v for k, v in split.items() if v is not None}
        plain: dict[str, Any] = json.loads(json.dumps(values, ensure_ascii=False, allow_nan=False))
        return plain


def current_names(record: dict[str, Any]) -> dict[str, Any]:
    """A record of any earlier version under today's names; the only place that knows the old ones."""
    config = record.get("config")
    if isinstance(config, dict) and "label_column" in config:
        config = dict(config)
        record = record | {"config": config | {"label_columns": [config.pop("label_column")]}}
    conversion = record.get("conversion")
    distilled = conversion.get("distillation") if isinstance(conversion, dict) else None
    if "lineage" not in record and isinstance(distilled, dict):
        seconds = distilled.get("seconds", 0.0)
        found = {"role": "distillation", "run_id": None, "kind": "distill", "seconds": seconds}
        record = record | {"lineage": [found]}
    return record
