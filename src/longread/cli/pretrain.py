"""`longread pretrain`: an encoder learns to guess masked words of a task's texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from longread.cli import logs
from longread.cli.options import NONE_GIVEN, OfMechanisms, given_options, refuse_unused
from longread.cli.status import status_of_one
from longread.data.config import Truncation
from longread.errors import UserError


def pretrain(
    task: str,
    *,
    steps: int,
    attention: str = "dense",
    init: str = "scratch",
    mask_fraction: float = 0.15,
    num_hidden_layers: int = 1,
    hidden_size: int | None = None,
    num_attention_heads: int | None = None,
    head_dim: int | None = None,
    intermediate_size: int | None = None,
    norm_position: Literal["pre", "post"] | None = None,
    dropout: float | None = None,
    embedding_dropout: float | None = None,
    attention_dropout: float | None = None,
    tokenizer: str | None = None,
    vocab_size: int | None = None,
    lowercase: bool | None = None,
    train_rows: int | None = None,
    sample_seed: int | None = None,
    validation_fraction: float | None = None,
    text_columns: Annotated[list[str] | None, Parameter(consume_multiple=1)] = None,
    label_columns: Annotated[list[str] | None, Parameter(consume_multiple=1)] = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    eval_file: str | None = None,
    max_length: int | None = None,
    truncation: Truncation | None = None,
    chunk_stride: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    seed: int = 0,
    save_seconds: float | None = None,
    resume: bool = False,
    restart: bool = False,
    precision: Literal["auto", "float32", "bfloat16"] | None = None,
    tokens_per_micro_batch: int | None = None,
    threads: int | None = None,
    device: str | None = None,
    data_dir: Path | None = None,
    stream: bool | None = None,
    workers: int | None = None,
    out: Path | None = None,
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
    num_hidden_layers:
        Depth of a new model.
    hidden_size:
        Its width; default 64.
    num_attention_heads:
        Heads of each layer; default 4.
    head_dim:
        Width of one head; default hidden_size / num_attention_heads.
    intermediate_size:
        Width of the feed-forward layers; default 4 x hidden_size.
    norm_position:
        Layer norm before ("pre", the default) or after ("post") attention and feed-forward.
    dropout:
        Fraction of hidden values set to zero. Default 0.1, what a generated task suggests, or the checkpoint's own.
    embedding_dropout:
        The same for the embedding alone; default: as dropout.
    attention_dropout:
        Fraction of the attention probabilities set to zero. Default 0, or the checkpoint's own.
    tokenizer:
        "train" (a byte-level BPE from the training texts), "bytes", or a directory or Hub id. Default: train, or what
        the checkpoint brings. A new model's gets a mask token if it has none.
    vocab_size:
        Entries of a trained tokenizer; default 8192.
    lowercase:
        A trained tokenizer ignores case, which is the default.
    train_rows:
        Texts to learn from, the sample that train draws; default all of the task's training rows.
    sample_seed:
        Decides which rows a sample holds; default 0.
    validation_fraction:
        Fraction of a single file with labels that train evaluates on, and that is not read here; default 0.1.
    text_columns:
        Column of the text of your own file, or two for pairs.
    label_columns:
        Column of the class, or several of 0 and 1. Labels are not learned; they decide, as for train, which rows of a
        single file are held out for evaluation.
    encoding:
        Of your own file, such as cp1252.
    delimiter:
        Between the cells of your own .csv file.
    eval_file:
        A file with the evaluation rows of your own task: then all rows of the first one are training texts.
    max_length:
        Tokens of the longest sequence; longer texts are cut. Default 4096, or what the checkpoint reads.
    truncation:
        What is read of a text that is longer: head, tail, head_tail, or all of it in chunks (chunk).
    chunk_stride:
        Tokens that a chunk repeats of the one before it.
    batch_size:
        Texts of one update; default 32. Memory does not depend on it.
    learning_rate:
        The highest learning rate. Default 1e-3 from scratch, 1e-4 from a checkpoint.
    seed:
        Decides the first weights, the order of the texts and the masks.
    save_seconds:
        The run saves its state this often; at most so much is lost when it is killed. Default 60.
    resume:
        Go on where this run stopped (or start, when there is nothing yet).
    restart:
        Begin anew where this run stopped; what it has learned is deleted.
    precision:
        Of the computation; auto is bfloat16 where it is faster.
    tokens_per_micro_batch:
        Tokens that are in memory at once; the result does not depend on it. Default: by free memory.
    threads:
        Processor threads; default: all cores.
    device:
        Where to compute: auto (a GPU where there is one), cpu, cuda, cuda:N or mps.
    data_dir:
        Directory with TASK/SPLIT.parquet (.csv, .tsv, .jsonl); default LONGREAD_DATA_DIR, else the Hub.
    stream:
        Keep texts and tokens in files, not in memory. Default: for files of more than a gibibyte, .arrow files and
        URLs.
    workers:
        Processes that tokenize streamed rows; default one a core.
    out:
        Where runs are kept; default out.
    """
    given: dict[str, Any] = {
        "hidden_size": hidden_size, "num_attention_heads": num_attention_heads, "head_dim": head_dim,
        "intermediate_size": intermediate_size, "norm_position": norm_position, "dropout": dropout,
        "embedding_dropout": embedding_dropout, "attention_dropout": attention_dropout, "tokenizer": tokenizer,
        "vocab_size": vocab_size, "lowercase": lowercase, "train_rows": train_rows, "sample_seed": sample_seed,
        "validation_fraction": validation_fraction, "text_columns": text_columns, "label_columns": label_columns,
        "encoding": encoding, "delimiter": delimiter, "eval_file": eval_file, "max_length": max_length,
        "truncation": truncation, "chunk_stride": chunk_stride, "batch_size": batch_size,
        "learning_rate": learning_rate, "save_seconds": save_seconds, "precision": precision,
        "tokens_per_micro_batch": tokens_per_micro_batch, "threads": threads, "device": device, "data_dir": data_dir,
        "stream": stream, "workers": workers, "out": out,
    }  # fmt: skip
    from longread.cli.live import RunView, masked_line
    from longread.config import RunConfig
    from longread.system.allocator import tune_allocator

    tune_allocator()
    from longread.training.pretrain import pretrain as run_one

    config = RunConfig(
        task=task, attention=attention, init=init, num_hidden_layers=num_hidden_layers, seed=seed,
        options=given_options(options), **{name: value for name, value in given.items() if value is not None},
    )  # fmt: skip
    refuse_unused(config, [attention], [num_hidden_layers])
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
