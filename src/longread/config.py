"""Everything a run is asked for. The same fields are the options of `longread train` and `longread compare`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from longread.data.config import DataConfig
from longread.errors import UserError

BASELINES = ("tfidf", "nbsvm")
# Settings that belong to one mechanism; None leaves the mechanism's own default.
MECHANISM_SETTINGS = (
    "attention_window",
    "global_tokens",
    "block_size",
    "num_random_blocks",
    "random_block_plan",
    "num_features",
    "redraw_steps",
    "centred",
    "learned_features",
    "projection_size",
    "projection_init",
)
# Where a run happens and what it keeps do not change what it computes: they are no part of its name.
OUTSIDE_THE_NAME = ("data_dir", "out", "seed")
# Fields that came later are left out at their default, so that older records keep their names.
LATER_FIELDS: dict[str, Any] = {
    "fill_rows": False, "new_weights_rate": 1.0, "projection_rate": 1.0, "average_weights": 0.0, "centred": None,
    "learned_features": None, "attention_dropout": 0.0,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all runs of a grid have in common.

    Parameters
    ----------
    init:
        "scratch", or a pretrained checkpoint: a directory, Hub id or package:NAME/FOLDER (a folder of an installed
        Python package). A dense one is converted to the attention; positions beyond the trained ones are copies.
    tokenizer:
        "train" (a byte-level BPE from the training rows), "bytes", or a directory or Hub id. Default: train, or
        what the checkpoint brings.
    vocab_size:
        Entries of a trained tokenizer.
    lowercase:
        A trained tokenizer ignores case.
    hidden_size:
        Width of the model.
    num_attention_heads:
        Heads of each layer.
    head_dim:
        Width of one head; default hidden_size / num_attention_heads.
    intermediate_size:
        Width of the feed-forward layers; default 4 x hidden_size.
    norm_position:
        Layer norm before ("pre") or behind ("post") attention and feed-forward.
    pooling:
        What the classifier sees: the mean of a row's tokens, or its first token. "positions" is the older study's, to
        compare with: one number from each token, and a weight for each position and class.
    fill_rows:
        Fill every row up to max_length with padding that attention sees, as a model does that never uses its mask. For
        comparisons: it costs time, and what it computes depends on max_length.
    dropout:
        Share of hidden values dropped in training. Default 0.1, or what a generated task suggests.
    embedding_dropout:
        The same for the embedding alone; default: as dropout.
    attention_dropout:
        Share of each token's attention that is dropped behind the softmax. Performer has no matrix and none of this.
    token_dropout:
        Share of whole tokens that are left out of a training text, drawn anew each epoch.
    attention_window:
        Longformer: tokens of the window, both sides together.
    global_tokens:
        Longformer: which tokens see all and are seen by all: "first", or "first_text", in a pair all of the first text.
    block_size:
        BigBird: tokens of a block.
    num_random_blocks:
        BigBird: random blocks that each block sees.
    random_block_plan:
        BigBird: "seeded", or "huggingface" (random blocks as transformers has them in evaluation).
    num_features:
        Performer: random features of each head.
    redraw_steps:
        Performer: training steps after which its features are drawn anew; default never.
    centred:
        Performer: features follow the differences from a row's mean query and key; the rest of a score is exact.
    learned_features:
        Performer: features that begin at random and are trained, each head its own.
    projection_size:
        Linformer: slots that keys and values are projected to.
    projection_init:
        Linformer from scratch: projections that begin at random ("normal", the default), or by adding each position to
        one slot ("fold"), which learns faster.
    epochs:
        Passes over the training rows. Default 10 from scratch, 3 from a checkpoint.
    batch_size:
        PackedBatch of one optimizer step. Memory does not depend on it.
    learning_rate:
        The highest of the schedule. Default 1e-3 from scratch, 5e-5 from a checkpoint.
    optimizer:
        "adamw", or "adam" with the weight decay in the gradient.
    weight_decay:
        Weight decay of matrices; norms and biases have none.
    schedule:
        How the learning rate goes on after the warm-up.
    warmup_fraction:
        Share of all steps in which the learning rate rises.
    gradient_clip:
        Largest norm of the gradient; 0 switches clipping off.
    label_smoothing:
        Probability given to the wrong classes in the training target.
    class_weights:
        "balanced" weights each class by the inverse of its share of the training rows.
    layer_decay:
        Factor of the learning rate from each layer to the one below.
    new_weights_rate:
        Factor of the learning rate for weights that no pretraining has seen: the classifier, Linformer's projections
        and Performer's learned features.
    projection_rate:
        Linformer: factor of the learning rate for its projections alone.
    average_weights:
        Memory of a running mean of the weights over the steps, say 0.99; the mean is evaluated and kept. 0: none.
    frozen_layers:
        Layers, counted from the embedding, that are not trained.
    choose_epoch:
        "last", or "best" by accuracy on rows held out of train.
    patience:
        Stop after so many epochs without a better one on the held-out rows.
    selection_fraction:
        Share of the training rows held out for choose_epoch and patience.
    train_rows:
        Training rows, a stratified sample; default all (or what a generated task suggests).
    eval_rows:
        Evaluation rows, likewise.
    sample_seed:
        Draws the sample of rows; not the seed of the runs.
    validation_fraction:
        Share of a single file that is held out for evaluation.
    max_length:
        Tokens of the longest text; longer ones are cut, which is counted.
    text_columns:
        Column of the text, or two for pairs.
    label_column:
        Column of the class.
    encoding:
        Of your own file, such as cp1252. Default: UTF-8, UTF-16 by its mark, else Windows-1252, which is said.
    delimiter:
        Between the cells of your own .csv file. Default: the one of , ; and tab that the header shows.
    eval_file:
        A file with the evaluation rows of your own task.
    precision:
        Of training; auto is bfloat16 where it is faster (processor and width of the model decide).
    tokens_per_micro_batch:
        Tokens that are in memory at once.
    threads:
        Processor threads; default: all cores.
    device:
        Where to compute.
    data_dir:
        Directory with TASK/SPLIT.parquet (.csv, .tsv, .jsonl); default LONGREAD_DATA_DIR, else the Hub.
    out:
        Where runs and reports are kept.
    """

    init: str = "scratch"
    tokenizer: str | None = None
    vocab_size: int = 8192
    lowercase: bool = True
    hidden_size: int = 64
    num_attention_heads: int = 4
    head_dim: int | None = None
    intermediate_size: int | None = None
    norm_position: Literal["pre", "post"] = "pre"
    pooling: Literal["mean", "first", "positions"] | None = None
    fill_rows: bool = False
    dropout: float | None = None
    embedding_dropout: float | None = None
    attention_dropout: float = 0.0
    token_dropout: float = 0.0
    attention_window: int | None = None
    global_tokens: Literal["first", "first_text"] | None = None
    block_size: int | None = None
    num_random_blocks: int | None = None
    random_block_plan: Literal["seeded", "huggingface"] | None = None
    num_features: int | None = None
    redraw_steps: int | None = None
    centred: bool | None = None
    learned_features: bool | None = None
    projection_size: int | None = None
    projection_init: Literal["normal", "fold"] | None = None
    epochs: int | None = None
    batch_size: int = 32
    learning_rate: float | None = None
    optimizer: Literal["adamw", "adam"] = "adamw"
    weight_decay: float = 0.01
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_fraction: float = 0.1
    gradient_clip: float = 1.0
    label_smoothing: float = 0.0
    class_weights: Literal["none", "balanced"] = "none"
    layer_decay: float = 1.0
    new_weights_rate: float = 1.0
    projection_rate: float = 1.0
    average_weights: float = 0.0
    frozen_layers: int = 0
    choose_epoch: Literal["last", "best"] = "last"
    patience: int | None = None
    selection_fraction: float = 0.1
    train_rows: int | None = None
    eval_rows: int | None = None
    sample_seed: int = 0
    validation_fraction: float = 0.1
    max_length: int | None = None
    text_columns: tuple[str, ...] | None = None
    label_column: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    eval_file: str | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    tokens_per_micro_batch: int | None = None
    threads: int | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    data_dir: Path | None = None
    out: Path = Path("out")

    def __post_init__(self) -> None:
        for name in ("vocab_size", "hidden_size", "num_attention_heads", "batch_size", "max_length", "threads",
                     "tokens_per_micro_batch", "patience", "train_rows", "eval_rows", "epochs"):  # fmt: skip
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"--{name.replace('_', '-')} {value}: must be 1 or more")
        for name in ("dropout", "embedding_dropout", "attention_dropout", "token_dropout", "label_smoothing",
                     "warmup_fraction", "average_weights"):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise UserError(f"--{name.replace('_', '-')} {value}: must be at least 0 and below 1")
        for name in ("selection_fraction", "validation_fraction"):
            if not 0 < getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)}: must lie between 0 and 1")
        for name in ("learning_rate", "new_weights_rate", "projection_rate"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"--{name.replace('_', '-')} {value}: must be above 0")
        for name in ("weight_decay", "gradient_clip", "frozen_layers"):
            if getattr(self, name) < 0:
                raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)}: must not be negative")


@dataclass(frozen=True, kw_only=True)
class RunConfig(Settings):
    """One run."""

    task: str = "reviews"
    attention: str = "dense"
    num_hidden_layers: int = 1
    seed: int = 0

    @property
    def is_baseline(self) -> bool:
        return self.attention in BASELINES

    def mechanism(self) -> dict[str, Any]:
        """The mechanism's settings that were given."""
        values = {name: getattr(self, name) for name in MECHANISM_SETTINGS}
        return {name: value for name, value in values.items() if value is not None}

    def data_config(self) -> DataConfig:
        """What the data room has to know of this run."""
        same = {f.name for f in dataclasses.fields(DataConfig)} - {"cache", "selection_fraction"}
        chosen = self.choose_epoch == "best" or self.patience is not None
        return DataConfig(
            **{name: getattr(self, name) for name in same},
            selection_fraction=self.selection_fraction if chosen else None,
            cache=self.out / "cache",
        )

    def named(self) -> dict[str, Any]:
        """The part that decides what is computed, for the record and the run's name; fields left open are absent."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        kept = {k: v for k, v in fields.items() if v is not None and k not in OUTSIDE_THE_NAME}
        kept = {k: v for k, v in kept.items() if k not in LATER_FIELDS or v != LATER_FIELDS[k]}
        if self.is_baseline:  # a linear model has rows, and none of a transformer's settings
            data = ("task", "attention", "train_rows", "eval_rows", "sample_seed", "validation_fraction",
                    "text_columns", "label_column", "encoding", "delimiter", "eval_file")  # fmt: skip
            kept = {k: v for k, v in kept.items() if k in data}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in kept.items()}

    def to_json(self) -> dict[str, Any]:
        """All fields, as JSON knows them."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {k: str(v) if isinstance(v, Path) else list(v) if isinstance(v, tuple) else v for k, v in fields.items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> RunConfig:
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        for name in ("data_dir", "out"):
            if values.get(name) is not None:
                values[name] = Path(values[name])
        return cls(**values)
