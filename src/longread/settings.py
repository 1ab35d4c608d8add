"""What a run can be asked for: the options of `longread train` and `longread compare`, with their help.

A mechanism's own settings are not here: its class declares them (`Options`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from longread.checks import Count, Fraction, InnerFraction, Natural, NotNegative, Positive, check_fields
from longread.data.config import Truncation
from longread.problems import ProblemType

TrackerName = Literal["tensorboard", "mlflow", "wandb"]


@dataclass(frozen=True, kw_only=True)
class RowSettings:
    """The rows that a model is evaluated on, and how they are read.

    Parameters
    ----------
    eval_rows:
        Evaluation rows, a stratified sample; default all (or what a generated task suggests).
    sample_seed:
        Decides which rows a sample holds. It is not the seed of the runs: all runs see the same rows.
    validation_fraction:
        Fraction of a single file that is held out for evaluation; as many rows as classes, at least.
    max_length:
        Tokens of the longest sequence; longer texts are cut, and the record says how many. Default 4096 from scratch,
        or what the checkpoint reads.
    truncation:
        What is read of a text that is longer: its head, its tail, half of each (head_tail), or all of it in chunks,
        whose logits are averaged (of several labels the highest of each counts), in training too. Default: what the
        checkpoint was trained with, else the head (the tail if the tokenizer says so).
    chunk_stride:
        Tokens that a chunk repeats of the one before it.
    text_columns:
        Column of the text, or two for pairs.
    label_columns:
        Column of the class or number, or several of 0 and 1: each is a label, and a text may have any of them.
    label_separator:
        Between the labels of a cell, such as ";", where a text may have several.
    problem_type:
        single_label_classification, multi_label_classification or regression. Default: read from the data; several
        columns, a separator or lists are multi-label, numbers with fractions a regression.
    encoding:
        Of your own file, such as cp1252. Default: UTF-8, UTF-16 by its mark, else Windows-1252, which is said.
    delimiter:
        Between the cells of your own .csv file. Default: the one of , ; | and tab that the header shows.
    eval_file:
        A file with the evaluation rows of your own task.
    tokenizer:
        "train" (a byte-level BPE from the training rows), "bytes", or a directory or Hub id. Default: train, or
        what the checkpoint brings.
    data_dir:
        Directory with TASK/SPLIT.parquet (.csv, .tsv, .jsonl); default LONGREAD_DATA_DIR, else the Hub.
    stream:
        Keep texts and tokens in files under OUT/cache and read them from there, for data beyond memory. The result is
        the same; only a tokenizer is trained on a sample where there are more than 100,000 rows. Default: for files of
        more than 1 GiB together, URLs and .arrow files.
    workers:
        Processes that tokenize streamed rows; default one a core. The result does not depend on it.
    """

    eval_rows: Count | None = None
    sample_seed: Natural = 0
    validation_fraction: InnerFraction = 0.1
    max_length: Count | None = None
    truncation: Truncation | None = None
    chunk_stride: Natural = 0
    text_columns: tuple[str, ...] | None = None
    label_columns: tuple[str, ...] | None = None
    label_separator: str | None = None
    problem_type: ProblemType | None = None
    encoding: str | None = None
    delimiter: str | None = None
    eval_file: str | None = None
    tokenizer: str | None = None
    data_dir: Path | None = None
    stream: bool | None = None
    workers: Count | None = None


@dataclass(frozen=True, kw_only=True)
class MachineSettings:
    """Where a run computes, how precisely, and where it leaves its results.

    Parameters
    ----------
    precision:
        Of the computation; auto is bfloat16 where it is faster (processor and width of the model decide). int8 is for
        evaluate, predict and serve, on a processor: the linear layers alone, their weights rounded as they are read.
        Training takes float32 or bfloat16.
    tokens_per_micro_batch:
        Tokens that are in memory at once; the result does not depend on it. Default: by free memory.
    threads:
        Processor threads; default: all cores.
    device:
        Where to compute: auto (a GPU where there is one), cpu, cuda, cuda:N or mps.
    out:
        Where runs and reports are kept.
    """

    precision: Literal["auto", "float32", "bfloat16", "int8"] = "auto"
    tokens_per_micro_batch: Count | None = None
    threads: Count | None = None
    device: str = "auto"
    out: Path = Path("out")


@dataclass(frozen=True, kw_only=True)
class StartSettings:
    """What a model begins from.

    Parameters
    ----------
    init:
        "scratch", or a pretrained checkpoint: a directory, Hub id or package:NAME/FOLDER (a folder of an installed
        Python package). A dense one is converted to the attention; positions beyond the trained ones are copies.
    vocab_size:
        Entries of a trained tokenizer.
    lowercase:
        A trained tokenizer ignores case.
    """

    init: str = "scratch"
    vocab_size: Count = 8192
    lowercase: bool = True


@dataclass(frozen=True, kw_only=True)
class WidthSettings:
    """How wide a model is.

    Parameters
    ----------
    hidden_size:
        Width of the model.
    num_attention_heads:
        Heads of each layer.
    head_dim:
        Width of one head; default hidden_size / num_attention_heads.
    """

    hidden_size: Count = 64
    num_attention_heads: Count = 4
    head_dim: Count | None = None


@dataclass(frozen=True, kw_only=True)
class ModelSettings(WidthSettings, StartSettings):
    """The model: a checkpoint to begin from, or the shape of a new one.

    Parameters
    ----------
    intermediate_size:
        Width of the feed-forward layers; default 4 x hidden_size.
    norm_position:
        Layer norm before ("pre") or after ("post") attention and feed-forward.
    pooling:
        What the classifier sees: the mean of a text's tokens, or its first token. "positions" is the student study's,
        for comparison: one number from each token, and a weight for each position and class.
    fill_rows:
        Fill every text up to max_length with padding that attention sees, as a model does that ignores its mask. For
        comparisons: it costs time, and the result depends on max_length.
    dropout:
        Fraction of hidden values set to zero in training. Default 0.1, what a generated task suggests, or the
        checkpoint's own.
    embedding_dropout:
        The same for the embedding alone; default: as dropout.
    attention_dropout:
        Fraction of the attention probabilities set to zero in training, for mechanisms that have them. Default 0, or
        the checkpoint's own.
    token_dropout:
        Fraction of a training text's tokens that are left out, others in each epoch.
    """

    intermediate_size: Count | None = None
    norm_position: Literal["pre", "post"] = "pre"
    pooling: Literal["mean", "first", "positions"] | None = None
    fill_rows: bool = False
    dropout: Fraction | None = None
    embedding_dropout: Fraction | None = None
    attention_dropout: Fraction | None = None
    token_dropout: Fraction = 0.0


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How it is trained.

    Parameters
    ----------
    train_rows:
        Training rows, a stratified sample; default all (or what a generated task suggests).
    epochs:
        Passes over the training rows. Default 10 from scratch, 3 from a checkpoint.
    batch_size:
        Texts of one optimizer step. Memory does not depend on it.
    learning_rate:
        The highest learning rate, after the warm-up. Default 1e-3 from scratch, 5e-5 from a checkpoint.
    optimizer:
        "adamw", or "adam" with the weight decay in the gradient.
    weight_decay:
        Weight decay of matrices; norms and biases have none.
    schedule:
        How the learning rate goes on after the warm-up.
    warmup_fraction:
        Fraction of all steps in which the learning rate rises.
    gradient_clip:
        Largest norm of the gradient; 0 switches clipping off.
    label_smoothing:
        Probability given to the wrong classes in the training target.
    class_weights:
        "balanced" weights each class by the inverse of its frequency in the training rows, and each of several labels
        by the rows without it over the rows with it. Or numbers: "rare=5,spam=0.5", the others weigh 1.
    layer_decay:
        Factor of the learning rate from each layer to the one below.
    new_weights_rate:
        Factor of the learning rate for weights that no pretraining has seen: the classifier, and what a mechanism has
        that dense attention has not.
    average_weights:
        Decay of a running mean of the weights over the steps, say 0.99; the mean is evaluated and kept. 0: none.
    frozen_layers:
        Layers, counted from the embedding, that are not trained.
    choose_epoch:
        "last", or "best" on rows held out of train.
    choose_by:
        Keep the epoch that is best by this metric on rows held out of train: accuracy, f1 (of the second of two
        classes), f1:LABEL, f1_macro, f1_micro, exact_match, average_precision, mse, mae, spearman, r2 or loss. Default
        for --choose-epoch best: accuracy, for several labels f1_micro, for numbers r2.
    patience:
        Stop after so many epochs without a better one on the held-out rows.
    calibrate:
        Choose a temperature on rows held out of train, so that probabilities mean what they say; it goes into the
        weights.
    choose_threshold:
        Choose on rows held out of train the probability above which the second of two classes, or each of several
        labels, is given: by its F1, by the mean of that and the F1 of its absence, or by accuracy.
    selection_fraction:
        Fraction of the training rows held out where something is chosen on them.
    eval_precision:
        Of the evaluation after each epoch, and of what is chosen on held-out rows. float32 whatever --precision says,
        unless this asks for bfloat16, which is faster where the processor has it; some answers may differ.
    tuning_fraction:
        Evaluate on this fraction of the training rows, held out of them, and leave the evaluation rows unread: for
        choosing settings.
    save_seconds:
        A run saves its state this often; at most so much training is lost when it is killed, and an evaluation under
        way.
    shard:
        Under torchrun: each process keeps a part of the weights, of their gradients and of the optimizer's moments.
    """

    train_rows: Count | None = None
    epochs: Count | None = None
    batch_size: Count = 32
    learning_rate: Positive | None = None
    optimizer: Literal["adamw", "adam"] = "adamw"
    weight_decay: NotNegative = 0.01
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_fraction: Fraction = 0.1
    gradient_clip: NotNegative = 1.0
    label_smoothing: Fraction = 0.0
    class_weights: str = "none"
    layer_decay: Positive = 1.0
    new_weights_rate: Positive = 1.0
    average_weights: Fraction = 0.0
    frozen_layers: Natural = 0
    choose_epoch: Literal["last", "best"] = "last"
    choose_by: str | None = None
    patience: Count | None = None
    calibrate: bool = False
    choose_threshold: Literal["f1", "f1_macro", "accuracy"] | None = None
    selection_fraction: InnerFraction = 0.1
    eval_precision: Literal["float32", "bfloat16"] = "float32"
    tuning_fraction: InnerFraction | None = None
    save_seconds: NotNegative = 60.0
    shard: bool = False


@dataclass(frozen=True, kw_only=True)
class Settings(MachineSettings, RowSettings, TrainingSettings, ModelSettings):
    """What all runs of a grid have in common."""

    def __post_init__(self) -> None:
        check_fields(self)
