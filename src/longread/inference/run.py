"""A checkpoint evaluated on a task: from configuration to record."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from longread.config import RunConfig
from longread.data.dataset import tokenize
from longread.data.labels import placeholders
from longread.data.tokenizer import Tokenizer, load_tokenizer
from longread.errors import UserError
from longread.inference.evaluate import OnRows, split_logits
from longread.inference.meter import Meter
from longread.inference.origin import folder_of, is_graph
from longread.inference.predictor import load
from longread.inference.quality import Evaluated
from longread.inference.run_linear import evaluate_linear
from longread.inference.run_onnx import evaluate_graph
from longread.inference.scored import LeaveOut, ModelScores, ScoredRows, check_length, record_scores, rows_to_score
from longread.inference.unseen import rows_of
from longread.models import linear
from longread.models.checkpoint import from_pretrained
from longread.models.classifier import Classifier
from longread.models.int8 import to_int8
from longread.models.loading import check_answers, check_tokenizer
from longread.models.weights import weights_fingerprint
from longread.records import Run
from longread.system import processes, runtime

EVALUATION_SETTINGS = ("task", "attention", "init", "eval_rows", "sample_seed", "max_length",
                       "precision", "tokens_per_micro_batch", "device", "text_columns", "label_columns",
                       "label_separator", "validation_fraction", "encoding", "delimiter", "eval_file", "truncation",
                       "chunk_stride")  # fmt: skip


def evaluate(
    config: RunConfig,
    checkpoint: str | Path,
    *,
    tokenizer: str | None = None,
    untrained_head: bool = False,
) -> Run:
    """A checkpoint on a task without any training: its record, written like a training run's.

    `config` names the task, its rows and how to compute; the checkpoint's own shape counts, not the configuration's.
    `tokenizer`: a folder, where the checkpoint has none. `untrained_head`: go on though the head was never trained.
    UserError for a label that the model does not know.
    """
    return evaluated(config, checkpoint, tokenizer=tokenizer, untrained_head=untrained_head).run


def evaluated(
    config: RunConfig,
    checkpoint: str | Path,
    *,
    tokenizer: str | None = None,
    untrained_head: bool = False,
    on_rows: OnRows | None = None,
) -> Evaluated:
    """What `evaluate` does, with the answers beside the record.

    Scored are the rows of `eval_file`, or the task's evaluation rows; of files that the checkpoint was trained on, the
    part that was held out. Labels are read against the model's names. UserError for a label that the model does
    not know, and for a classifier that was never trained, unless untrained_head asks for it: its time is then the
    result. on_rows: told how far it is, of a network.
    On several processes each calls this and gets all answers; the first one writes.
    """
    with processes.joined():
        return _evaluated(config, checkpoint, tokenizer, untrained_head, on_rows)


def _evaluated(
    config: RunConfig, checkpoint: str | Path, tokenizer: str | None, untrained_head: bool, on_rows: OnRows | None
) -> Evaluated:
    config, leave_out = rows_of(config, checkpoint)
    if processes.count() > 1 and (is_graph(checkpoint) or linear.is_linear(folder_of(checkpoint))):
        raise UserError(f"{checkpoint}: only a checkpoint of a network is evaluated under torchrun")
    unused = {"tokenizer": tokenizer, "untrained_head": untrained_head or None}
    if is_graph(checkpoint):
        return evaluate_graph(config, checkpoint, unused, leave_out)
    if linear.is_linear(folder_of(checkpoint)):
        return evaluate_linear(config, checkpoint, unused | config.cut.to_json(), leave_out)
    return _evaluated_network(config, checkpoint, tokenizer, untrained_head, leave_out, on_rows)


def _evaluated_network(
    config: RunConfig,
    checkpoint: str | Path,
    tokenizer: str | None,
    untrained_head: bool,
    leave_out: LeaveOut,
    on_rows: OnRows | None,
) -> Evaluated:
    device = runtime.pick_device(config.device)
    torch.set_num_threads(config.threads or torch.get_num_threads())
    meter = Meter(device)
    own = dict(config.options)
    model, chosen, names = _network(checkpoint, device, tokenizer, untrained_head, own)
    problem = model.config.problem_type
    assert problem is not None
    asked = config.cut  # refuses a stride without chunks
    config = replace(config, **vars(model.cut if config.truncation is None else asked))
    config, examples = rows_to_score(config, checkpoint, names, problem, model.decision, leave_out)
    check_length(config, checkpoint, model.config.max_length)
    limit = min(config.max_length or chosen.limit(model.config.max_length), model.config.max_length)
    split = tokenize(examples, chosen, limit, config.data_config().cache, config.cut)
    settings = _resolved(replace(config, max_length=limit, init=str(checkpoint)), model)
    # What the checkpoint is, before int8 makes other weights of it.
    weights, parameters = weights_fingerprint(model), model.num_parameters
    if settings.precision == "int8":
        model = to_int8(model)
    assert settings.tokens_per_micro_batch
    done = split_logits(
        model, split, tokens=settings.tokens_per_micro_batch, device=device, precision=settings.precision,
        on_rows=on_rows,
    )  # fmt: skip
    scores = ModelScores(
        done.logits, weights, model.decision,
        seconds=done.seconds, cpu_seconds=done.cpu_seconds, tokens=done.usage.tokens,
    )  # fmt: skip
    return record_scores(
        settings,
        {k: v for k, v in settings.named().items() if k in EVALUATION_SETTINGS or k in own},
        ScoredRows(examples, split, chosen),
        scores,
        attention=model.config.attention,
        mechanism=model.config.look(),
        init=str(checkpoint),
        encoder=model.config.to_dict(),
        num_parameters=parameters,
        head_is_untrained=bool(model.loading and model.loading.head_is_untrained),
        padded_fraction=done.usage.padded_fraction,
        effective_attention=done.usage.effective_attention,
        kernels=tuple(sorted(done.usage.kernels)) or None,
        **meter.fields(device, settings.precision),
    )


def _resolved(config: RunConfig, model: Classifier) -> RunConfig:
    """With what the machine and the model decide filled in."""
    machine = runtime.resolve_machine(
        model.config.hidden_size,
        device=config.device,
        precision="float32" if config.precision == "auto" else config.precision,
        tokens_per_micro_batch=config.tokens_per_micro_batch,
        threads=config.threads,
    )
    return replace(config, attention=model.config.attention, **vars(machine))


def _network(
    checkpoint: str | Path, device: torch.device, tokenizer: str | None, untrained_head: bool, own: dict[str, Any]
) -> tuple[Classifier, Tokenizer, tuple[str, ...]]:
    """The model where it computes, its tokenizer or the one that was given, and its labels."""
    if tokenizer is None:
        found = load(checkpoint, str(device), untrained_head=untrained_head, **own)
        return found.model, found.tokenizer, found.label_names
    if tokenizer in ("train", "bytes"):
        raise UserError(f"--tokenizer {tokenizer}: for a new model; give the folder of the one it was trained with")
    model = from_pretrained(checkpoint, **own).to(device).eval()
    check_answers(model, untrained_head=untrained_head)
    chosen = load_tokenizer(tokenizer)
    check_tokenizer(model, chosen)
    return model, chosen, model.config.label_names or placeholders(model.config.num_labels)
