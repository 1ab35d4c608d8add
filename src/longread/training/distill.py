"""A converted encoder is trained to follow the dense one it came from, on a task's own texts without their labels.

The loss is in training/distillation.py.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from longread.config import RunConfig
from longread.data.dataset import tokenize
from longread.data.load import load_task
from longread.data.tasks import find_task
from longread.errors import UserError
from longread.inference.meter import Meter
from longread.inference.unseen import as_trained
from longread.models.checkpoint import from_pretrained
from longread.models.classifier import Classifier
from longread.models.weights import weights_fingerprint
from longread.records import Run
from longread.records.record import Kind
from longread.system import processes, runtime
from longread.training.distillation import HeldOut, distillation_trainer
from longread.training.events import Listener, ignore
from longread.training.lineage import provenance_of
from longread.training.resolve import check_options, check_precision
from longread.training.run import run_work
from longread.training.start import converted, tokenizer_for
from longread.training.trainer import Trainer
from longread.training.unlabelled import READ, UnlabelledWork, check_enough, check_unread, work_done

log = logging.getLogger("longread")

LEARNING_RATE = 1e-4
WARM_UP = 0.05  # of the steps


def distill(
    config: RunConfig, *, steps: int, resume: bool = False, restart: bool = False, on_event: Listener = ignore
) -> Run:
    """The dense checkpoint `config.init` under `config.attention`, distilled on the task's training texts.

    The record (kind "distill") is in `OUT/runs/<run_id>/`, and the model in its `checkpoint`, which `init` takes.
    `max_length`: tokens that the new model reads; texts are cut to what the teacher reads. Where the distance from
    the teacher grew, the model gets its weights from before back, with a warning; where there is none to begin with, no
    step is taken. Stops, resumes and is skipped as `train`. UserError for settings that a distillation does not use,
    for too few rows, and as in `train`.
    """
    if steps < 1:
        raise UserError(f"--distill-steps {steps}: must be 1 or more")
    config = as_trained(_resolve(config), config.init)  # rows that were held out of the teacher's training stay so
    with processes.joined():
        meter = Meter(runtime.pick_device(config.device))
        with processes.first_goes_ahead():
            work = _work(config, steps)
        return run_work(work, resume=resume, restart=restart, on_event=on_event, meter=meter)


def _work(config: RunConfig, steps: int) -> DistillationWork:
    teacher = from_pretrained(config.init, seed=config.seed)
    student = converted(teacher, config, config.max_length)
    if student is teacher:
        raise UserError(f"{config.init}: has {config.attention} attention of this length already; nothing to distil")
    examples, _ = load_task(replace(config, eval_rows=1).data_config())
    tokenizer = tokenizer_for(teacher, config)
    limit = min(tokenizer.limit(teacher.config.max_length), student.config.max_length)
    split = tokenize(examples, tokenizer.reading(limit), limit, config.out / "cache", workers=config.workers)
    check_enough(len(split), "distillation")
    provenance = provenance_of(config.init)
    return DistillationWork(
        config=replace(config, max_length=student.config.max_length),
        model=student,
        teacher=teacher,
        split=split,
        steps=steps,
        tokenizer=tokenizer.reading(student.config.max_length),
        fingerprints=(split.fingerprint, tokenizer.fingerprint, weights_fingerprint(teacher)),
        lineage=provenance.as_teacher() if provenance else (),
        earlier=provenance.trainings() if provenance else (),
    )


def _resolve(config: RunConfig) -> RunConfig:
    check_unread(config, READ, "a distillation")
    if config.init == "scratch":
        raise UserError("distillation: init names no teacher; give a dense checkpoint")
    check_options(config)
    check_precision(config)
    rows = config.train_rows or find_task(config.task).train_rows
    rate = config.learning_rate or LEARNING_RATE
    return replace(
        config, train_rows=rows, learning_rate=rate, warmup_fraction=WARM_UP, schedule="linear", weight_decay=0.0
    )


@dataclass(frozen=True, kw_only=True)
class DistillationWork(UnlabelledWork):
    """Training behind a teacher for a number of steps."""

    teacher: Classifier

    @property
    def kind(self) -> Kind:
        return "distill"

    def trainer(self, config: RunConfig, directory: Path, on_event: Listener) -> Trainer:
        return distillation_trainer(self.model, self.teacher, self.split, config, self.steps, directory, on_event)

    def results(self, trainer: Trainer) -> dict[str, Any]:
        held_out = trainer.evaluation
        assert isinstance(held_out, HeldOut)
        done = {
            "task": self.split.task,
            **work_done(trainer),
            "seconds": trainer.watch.seconds,
            "batch_size": trainer.config.batch_size,
            "learning_rate": trainer.config.learning_rate,
            "faster": {name.rpartition(".")[2]: factor for name, factor in held_out.factors.items()},
            "precision": trainer.config.precision,
            "seed": trainer.config.seed,
            "longest_row": int(self.split.lengths.max()),
            "distance_before": held_out.before,
            "distance_after": held_out.after,
            "kept": held_out.kept,
        }
        if held_out.has_nothing_to_teach:
            log.warning(
                "nothing to distil: the new attention covers the %d texts held out, of up to %d tokens (the longest of "
                "all has %d), and the model already answers as its teacher there; no step is taken, and the converted "
                "model is kept",
                len(held_out.rows), int(self.split.lengths[held_out.rows].max()), done["longest_row"],
            )  # fmt: skip
        elif not held_out.kept:
            log.warning(
                "the distillation led away from the teacher (distance %.3f, then %.3f): the weights are those from "
                "before it; try a lower learning rate", held_out.before, held_out.after,
            )  # fmt: skip
        assert self.model.loading is not None
        conversion = dict(self.model.loading.converted or {}) | {"distillation": done}
        self.model.loading = replace(self.model.loading, converted=conversion)
        return {"distillation": done, "conversion": conversion, "metrics": {"distance": held_out.kept_distance}}
