"""`longread pretrain`: an encoder learns to guess masked words of a task's texts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from longread.cli import logs
from longread.cli.options import MACHINE, NONE_GIVEN, OfMachine, OfMechanisms, given_options, panel, refuse_unused
from longread.cli.status import status_of_one
from longread.data.config import Truncation
from longread.errors import UserError
from longread.problems import ProblemType


@dataclass(frozen=True, kw_only=True)
class Texts:
    """Which texts are read; None for the default of train.

    Parameters
    ----------
    train_rows:
        Texts to learn from, the sample that train draws; default all of the task's training rows.
    sample_seed:
        Decides which rows a sample holds; default 0.
    max_length:
        Tokens of the longest sequence; longer texts are cut. Default 4096, or what the checkpoint reads.
    truncation:
        What is read of a text that is longer: head, tail, head_tail, or all of it in chunks (chunk).
    chunk_stride:
        Tokens that a chunk repeats of the one before it.
    text_columns:
        Column of the text of your own file, or two for pairs.
    label_columns:
        Column of the class or number, or several of 0 and 1. Labels are not learned; where a file has some, they decide
        as for train which of its rows are held out for evaluation and not read here.
    label_separator:
        Between the labels of a cell.
    problem_type:
        Of the labels, as for train.
    validation_fraction:
        Fraction of a single file with labels that train evaluates on; default 0.1.
    eval_file:
        A file with the evaluation rows of your own task: then all rows of the first one are learned from.
    encoding:
        Of your own file, such as cp1252.
    delimiter:
        Between the cells of your own .csv file.
    data_dir:
        Directory with TASK/SPLIT.parquet (.csv, .tsv, .jsonl); default LONGREAD_DATA_DIR, else the Hub.
    stream:
        Keep texts and tokens in files, not in memory. Default: for files of more than 1 GiB together, URLs and .arrow
        files.
    workers:
        Processes that tokenize streamed rows; default one a core.
    """

    train_rows: int | None = None
    sample_seed: int | None = None
    max_length: int | None = None
    truncation: Truncation | None = None
    chunk_stride: int | None = None
    text_columns: tuple[str, ...] | None = None
    label_columns: tuple[str, ...] | None = None
    label_separator: str | None = None
    problem_type: ProblemType | None = None
    validation_fraction: float | None = None
    eval_file: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    data_dir: Path | None = None
    stream: bool | None = None
    workers: int | None = None


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """The shape of a new model; None for the default of train.

    Parameters
    ----------
    num_hidden_layers:
        Depth; default 1.
    hidden_size:
        Width of the model; default 64.
    num_attention_heads:
        Heads of each layer; default 4.
    head_dim:
        Width of one head; default hidden_size / num_attention_heads.
    intermediate_size:
        Width of the feed-forward layers; default 4 x hidden_size.
    norm_position:
        Layer norm before ("pre", the default) or after ("post") attention and feed-forward.
    tokenizer:
        "train" (a byte-level BPE from the training texts), "bytes", or a directory or Hub id. Default: train, or what
        the checkpoint brings. A new model's gets a mask token if it has none.
    vocab_size:
        Entries of a trained tokenizer; default 8192.
    lowercase:
        A trained tokenizer ignores case, which is the default.
    dropout:
        Fraction of hidden values set to zero. Default 0.1, what a generated task suggests, or the checkpoint's own.
    embedding_dropout:
        The same for the embedding alone; default: as dropout.
    attention_dropout:
        Fraction of the attention probabilities set to zero. Default 0, or the checkpoint's own.
    """

    num_hidden_layers: int | None = None
    hidden_size: int | None = None
    num_attention_heads: int | None = None
    head_dim: int | None = None
    intermediate_size: int | None = None
    norm_position: Literal["pre", "post"] | None = None
    tokenizer: str | None = None
    vocab_size: int | None = None
    lowercase: bool | None = None
    dropout: float | None = None
    embedding_dropout: float | None = None
    attention_dropout: float | None = None


@dataclass(frozen=True, kw_only=True)
class Updates:
    """How it is trained.

    Parameters
    ----------
    batch_size:
        Texts of one update; default 32. Memory does not depend on it.
    learning_rate:
        The highest learning rate. Default 1e-3 from scratch, 1e-4 from a checkpoint.
    save_seconds:
        The run saves its state this often; at most so much is lost when it is killed. Default 60.
    """

    batch_size: int | None = None
    learning_rate: float | None = None
    save_seconds: float | None = None


TEXTS, ENCODER, UPDATES = Texts(), Encoder(), Updates()


def pretrain(
    task: str,
    *,
    steps: int,
    attention: str = "dense",
    init: str = "scratch",
    mask_fraction: float = 0.15,
    seed: int = 0,
    resume: bool = False,
    restart: bool = False,
    texts: Annotated[Texts, panel("Texts", 1)] = TEXTS,
    encoder: Annotated[Encoder, panel("Model", 2)] = ENCODER,
    updates: Annotated[Updates, panel("Training", 4)] = UPDATES,
    machine: OfMachine = MACHINE,
    options: OfMechanisms = NONE_GIVEN,
) -> int:
    """Masked-language modelling on a task's training texts, without labels; then fine-tune: train --init CHECKPOINT.

    Example: longread pretrain imdb --attention longformer --steps 2000

    Of each text a fraction of the tokens is chosen, and the model learns to guess them: 80 % of them are hidden behind
    the mask token, 10 % behind another token, 10 % stay (BERT's rule, without its next-sentence prediction).

    Parameters
    ----------
    task:
        imdb, sst2, qnli, qqp, reviews[:LENGTH], listops[:LENGTH], your own file, or hub:OWNER/NAME. A file may have
        texts alone.
    steps:
        Updates.
    attention:
        dense, longformer, bigbird, performer, linformer or local, or several in quotes, a pattern that repeats over the
        layers: "dense local local".
    init:
        "scratch", or a checkpoint to go on from: a directory, Hub id or package:NAME/FOLDER, with the head for guessing
        tokens that it brings. A dense one is converted to the attention and to --max-length.
    mask_fraction:
        Part of each text's tokens that is guessed.
    seed:
        Decides the first weights, the order of the texts and the masks.
    resume:
        Go on where this run stopped (or start, when there is nothing yet).
    restart:
        Begin anew where this run stopped; what it has learned is deleted.
    """
    from longread.cli.live import RunView, masked_line
    from longread.config import RunConfig
    from longread.system.allocator import tune_allocator

    tune_allocator()
    from longread.training.pretrain import pretrain as run_one

    given = given_options(texts) | given_options(encoder) | given_options(updates) | given_options(machine)
    config = RunConfig(
        task=task, attention=attention, init=init, seed=seed, options=given_options(options), **given
    )  # fmt: skip
    refuse_unused(config, [attention], [config.num_hidden_layers])
    if resume and restart:
        raise UserError("--resume and --restart: choose one")
    with RunView(config) as view:
        run = run_one(
            config, steps=steps, mask_fraction=mask_fraction, resume=resume, restart=restart, on_event=view.on_event
        )
    if status := status_of_one(run):
        return status
    record = run.record
    logs.result(masked_line(record["metrics"]), metrics=record["metrics"])
    logs.result(f"checkpoint: {run.directory / 'checkpoint'}", checkpoint=run.directory / "checkpoint")
    return 0
