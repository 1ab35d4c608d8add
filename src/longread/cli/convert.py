"""`longread convert`: a checkpoint with another attention or more positions, distilled on a task's texts if asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from longread.cli import logs
from longread.cli.options import NONE_GIVEN, OfMechanisms, given_options, panel, part_of_settings
from longread.cli.places import check_new_folder
from longread.cli.status import status_of_one
from longread.errors import UserError, option_name


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """Whether the converted model is distilled, on what, and for how long.

    Parameters
    ----------
    distill_task:
        Task, or file of your own, whose training texts the new model learns from. Default: no distillation.
    distill_steps:
        Updates of the distillation.
    distill_rows:
        Texts to learn from; default all of the task's training rows.
    resume:
        Go on where this distillation stopped (or start, when there is nothing yet).
    restart:
        Begin anew where this distillation stopped; what it has learned is deleted.
    """

    distill_task: str | None = None
    distill_steps: int | None = None
    distill_rows: int | None = None
    resume: bool = False
    restart: bool = False


if TYPE_CHECKING:
    from longread.config import RunConfig

    DistillationSettings = Any
else:
    DistillationSettings = part_of_settings(
        "DistillationSettings", "learning_rate", "batch_size", "save_seconds", "tokenizer", "text_columns",
        "label_columns", "precision", "tokens_per_micro_batch", "threads", "device", "data_dir", "stream", "workers",
        learning_rate="The highest learning rate of the distillation; default 1e-4.",
        tokenizer="Directory or Hub id, for a checkpoint that brings none.",
        precision="Of the distillation; auto, which is the default, is bfloat16 where it is faster. Not int8.",
        stream="Keep the texts in files, not in memory. Default: for files of more than 1 GiB, URLs and .arrow files.",
    )  # fmt: skip
DISTILLATION, SETTINGS = Distillation(), DistillationSettings()


def convert(
    checkpoint: str,
    /,
    *,
    attention: str | None = None,
    out: Path,
    max_length: int | None = None,
    seed: int = 0,
    distillation: Annotated[Distillation, panel("Distillation", 4)] = DISTILLATION,
    settings: Annotated[DistillationSettings, panel("Distillation", 4)] = SETTINGS,
    options: OfMechanisms = NONE_GIVEN,
) -> int:
    """A dense checkpoint with efficient attention, or any checkpoint with more positions, its weights kept.

    Example: longread convert bert-base-uncased --attention longformer --max-length 4096 --out out/long-bert

    Where the new attention covers a whole text, the outputs stay what they were. With --distill-task the new model is
    then trained, on that task's texts and without their labels, to follow the old one.

    Parameters
    ----------
    checkpoint:
        A run's folder, a checkpoint's folder, or a Hub id.
    attention:
        longformer, bigbird, performer, linformer, local, or several in quotes, a pattern that repeats over the layers:
        "dense local local". Default: the checkpoint's own, which it keeps if it is not dense.
    out:
        Folder to write to; it must not exist yet, or be empty. With --distill-task the folder where runs are kept: the
        checkpoint is then in OUT/runs/ID/checkpoint.
    max_length:
        Tokens of the longest text to come; positions beyond the trained ones are copies. Default: as it is.
    seed:
        Decides what the mechanism draws at random, and the order of the texts.
    """
    from longread.system.allocator import tune_allocator

    tune_allocator()
    task, steps = distillation.distill_task, distillation.distill_steps
    if task is None:
        if unused := [*given_options(distillation), *given_options(settings)]:
            option = option_name(unused[0])
            raise UserError(f"{option}: of a distillation alone; give --distill-task and --distill-steps with it")
        return _convert(checkpoint, attention, out, max_length, seed, given_options(options))
    if steps is None:
        raise UserError(f"--distill-task {task}: say for how many updates with --distill-steps")
    if attention is None:
        raise UserError("--distill-task: name the new attention with --attention")
    if distillation.resume and distillation.restart:
        raise UserError("--resume and --restart: choose one")
    from longread.config import RunConfig

    config = RunConfig(
        task=task, init=checkpoint, attention=attention, max_length=max_length, seed=seed, out=out,
        train_rows=distillation.distill_rows, options=given_options(options), **given_options(settings),
    )  # fmt: skip
    return _distil(config, steps, distillation.resume, distillation.restart)


def _distil(config: RunConfig, steps: int, resume: bool, restart: bool) -> int:
    from longread.cli.live import RunView
    from longread.training.distill import distill

    with RunView(config) as view:
        run = distill(config, steps=steps, resume=resume, restart=restart, on_event=view.on_event)
    if status := status_of_one(run):
        return status
    done = run.record["distillation"]
    logs.result(f"distance from the teacher {done['distance_before']:.4f}, then {done['distance_after']:.4f}")
    logs.result(f"checkpoint: {run.directory / 'checkpoint'}", checkpoint=run.directory / "checkpoint")
    return 0


def _convert(
    checkpoint: str, attention: str | None, out: Path, max_length: int | None, seed: int, options: dict[str, Any]
) -> int:
    check_new_folder(out)
    from longread.data.tokenizer import load_tokenizer
    from longread.models.checkpoint import from_pretrained, save_pretrained
    from longread.models.convert import convert as convert_model
    from longread.models.loading import check_tokenizer
    from longread.training.lineage import provenance_of
    from longread.training.resolve import check_depth

    model = from_pretrained(checkpoint, seed=seed)
    if attention is not None:
        check_depth(attention, model.config.num_hidden_layers, is_fixed=True)
    if model.tokenizer_file is not None:  # it goes along
        check_tokenizer(model, load_tokenizer(model.tokenizer_file))
    converted = convert_model(model, model.config.attention if attention is None else attention, max_length, **options)
    save_pretrained(converted, out)
    if (provenance := provenance_of(checkpoint)) is not None:  # the weights are still that run's
        provenance.write(out)
    for name, value in (converted.loading.converted or {}).items():
        if value is not None:
            logs.result(f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}")
    if converted.decision.to_json():
        logs.result(
            "temperature and thresholds: kept, as they were chosen before; `longread calibrate` chooses them anew"
        )
    logs.result(f"checkpoint: {out}", checkpoint=out)
    return 0
