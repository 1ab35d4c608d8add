"""`longread pretrain`: an encoder learns to guess masked words of a task's texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from longread.cli import logs
from longread.cli.options import (
    MACHINE,
    NONE_GIVEN,
    OfMachine,
    OfMechanisms,
    given_options,
    panel,
    part_of_settings,
    refuse_unused,
)
from longread.cli.status import status_of_one
from longread.errors import UserError

if TYPE_CHECKING:
    Texts = Any
    Encoder = Any
    Updates = Any
else:
    Texts = part_of_settings(
        "Texts", "train_rows", "sample_seed", "max_length", "truncation", "chunk_stride", "text_columns",
        "label_columns", "label_separator", "problem_type", "validation_fraction", "eval_file", "encoding", "delimiter",
        "data_dir", "stream", "workers",
        max_length="Tokens of the longest sequence; longer texts are cut. Default 4096, or what the checkpoint reads.",
        truncation="What is read of a text that is longer: head, tail, half of each (head_tail), or all in chunks "
        "(chunk).",
        label_columns="Column of the class or number, or several of 0 and 1. Labels are not learned; where a file has "
        "some, they decide as for train which of its rows are held out for evaluation and not read here.",
        validation_fraction="Fraction of a single file with labels that train evaluates on. Default: 0.1.",
        eval_file="A file with the evaluation rows of your own task: then all rows of the first one are learned from.",
    )  # fmt: skip
    Encoder = part_of_settings(
        "Encoder", "hidden_size", "num_attention_heads", "head_dim", "intermediate_size", "norm_position", "tokenizer",
        "vocab_size", "lowercase", "dropout", "embedding_dropout", "attention_dropout",
        tokenizer='"train" (a byte-level BPE from the training texts), "bytes", or a directory or Hub id. Default: '
        "train, or what the checkpoint brings. A new model's gets a mask token if it has none.",
    )  # fmt: skip
    Updates = part_of_settings(
        "Updates", "batch_size", "learning_rate", "save_seconds",
        learning_rate="The highest learning rate. Default 1e-3 from scratch, 1e-4 from a checkpoint.",
    )  # fmt: skip
TEXTS, ENCODER, UPDATES = Texts(), Encoder(), Updates()


def pretrain(
    task: str,
    *,
    steps: int,
    attention: str = "dense",
    num_hidden_layers: int = 1,
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
    num_hidden_layers:
        Depth.
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
        task=task, attention=attention, num_hidden_layers=num_hidden_layers, init=init, seed=seed,
        options=given_options(options), **given,
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
