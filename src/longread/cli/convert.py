"""`longread convert`: a checkpoint with another attention or more positions, repaired on a task's texts if asked."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from longread.cli.options import NONE_GIVEN, OfMechanisms, given_options
from longread.errors import UserError


def convert(
    checkpoint: str,
    /,
    *,
    attention: str | None = None,
    out: Path,
    max_length: int | None = None,
    repair_task: str | None = None,
    repair_minutes: float = 5.0,
    repair_rows: int | None = None,
    repair_learning_rate: float = 1e-4,
    batch_size: int = 32,
    tokenizer: str | None = None,
    text_columns: Annotated[list[str] | None, Parameter(consume_multiple=1)] = None,
    label_column: str | None = None,
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    threads: int | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    seed: int = 0,
    data_dir: Path | None = None,
    options: OfMechanisms = NONE_GIVEN,
) -> int:
    """A dense checkpoint with efficient attention, or any checkpoint with more positions, its weights kept.

    Example: longread convert bert-base-uncased --attention longformer --max-length 4096 --out out/long-bert

    Where the new attention covers a whole text, the outputs stay what they were. With --repair-task the new model then
    learns, on that task's texts and without their labels, to follow the old one.

    Parameters
    ----------
    checkpoint:
        A checkpoint's folder or a Hub id.
    attention:
        longformer, bigbird, performer, linformer. Default: the checkpoint's own, which it keeps if it is not dense.
    out:
        Folder to write to; it must not exist yet, or be empty.
    max_length:
        Tokens of the longest text to come; positions beyond the trained ones are copies. Default: as it is.
    repair_task:
        Task, or file of your own, whose training texts the new model learns from. Default: no repair.
    repair_minutes:
        How long it learns.
    repair_rows:
        Texts to learn from; default all of the task's training rows.
    repair_learning_rate:
        The highest of the repair.
    batch_size:
        Texts of one step of the repair.
    tokenizer:
        Directory or Hub id, for a checkpoint that brings none.
    text_columns:
        Column of the text of your own file, or two for pairs.
    label_column:
        Column of the class of your own file.
    precision:
        Of the repair; auto is bfloat16 where it is faster.
    threads:
        Processor threads; default: all cores.
    device:
        Where to compute.
    seed:
        Decides what the mechanism draws at random, and the order of the texts.
    data_dir:
        Directory with TASK/SPLIT.parquet (.csv, .tsv, .jsonl); default LONGREAD_DATA_DIR, else the Hub.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out}: exists already; give a new folder")
    from longread.system.allocator import tune_allocator

    tune_allocator()
    import torch

    from longread.config import RunConfig
    from longread.models.checkpoint import from_pretrained, save_pretrained
    from longread.models.convert import convert as convert_model

    if threads:
        torch.set_num_threads(threads)
    teacher = from_pretrained(checkpoint, seed=seed)
    wanted = attention or teacher.config.attention
    student = convert_model(teacher, wanted, max_length, **given_options(options))
    if repair_task is not None:
        config = RunConfig(
            task=repair_task, init=checkpoint, tokenizer=tokenizer, train_rows=repair_rows, precision=precision,
            text_columns=None if text_columns is None else tuple(text_columns), label_column=label_column,
            threads=threads, device=device, data_dir=data_dir, seed=seed,
        )  # fmt: skip
        _repair(student, teacher, config, repair_minutes, batch_size, repair_learning_rate)
    save_pretrained(student, out)
    for name, value in (student.loading.converted or {}).items():
        print(f"{name}: {value}", file=sys.stderr)
    print(f"checkpoint: {out}", file=sys.stderr)
    return 0


def _repair(
    student: Any, teacher: Any, config: Any, minutes: float, batch_size: int, learning_rate: float
) -> None:  # fmt: skip
    """Distils on the texts of the task; the student's conversion says so afterwards, a warning if it did no good."""
    from dataclasses import replace

    from longread.cli.live import RepairView
    from longread.data.dataset import tokenize
    from longread.data.load import load_task
    from longread.data.tokenizer import load_tokenizer
    from longread.system import runtime
    from longread.training.distill import repair
    from longread.training.resolve import resolve_machine

    place = config.tokenizer or teacher.tokenizer_file
    if place is None:
        raise UserError(f"{config.init}: the checkpoint brings no tokenizer; give one with --tokenizer DIR")
    device = runtime.pick_device(config.device)
    resolved = resolve_machine(config, teacher.config.hidden_size)
    assert resolved.tokens_per_micro_batch
    examples, _ = load_task(replace(config, eval_rows=1).data_config())
    longest = min(teacher.config.max_length, student.config.max_length)
    split = tokenize(examples, load_tokenizer(place), longest, None)
    with RepairView(minutes) as view:
        done = repair(
            student.to(device), teacher.to(device), split, minutes=minutes, tokens=resolved.tokens_per_micro_batch,
            batch_size=batch_size, learning_rate=learning_rate, precision=resolved.precision, seed=config.seed,
            on_event=view.on_event,
        )  # fmt: skip
    student.cpu()
    if not done["kept"]:
        print(
            f"longread: the repair led away from the teacher (distance {done['distance_before']:.3f}, then "
            f"{done['distance_after']:.3f}): the weights are those from before it; try a lower --repair-learning-rate",
            file=sys.stderr,
        )
    student.loading = replace(student.loading, converted=dict(student.loading.converted) | {"distillation": done})
