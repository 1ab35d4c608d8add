"""A trained checkpoint, calibrated on rows that neither training nor evaluation has seen."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from longread.config import RunConfig
from longread.data.dataset import tokenize
from longread.data.load import load_split
from longread.data.stored import StoredTexts
from longread.errors import UserError
from longread.inference.evaluate import split_logits
from longread.inference.origin import folder_of, origin_of
from longread.inference.predictor import LinearPredictor, load
from longread.inference.seen import files_at
from longread.inference.unseen import as_trained, default_task
from longread.models.checkpoint import save_pretrained
from longread.models.decision import Decision
from longread.models.linear import save_linear
from longread.problems import REGRESSION
from longread.training.choice import check_choices, decide, scale_logits
from longread.training.lineage import provenance_of


def calibrate(
    checkpoint: str,
    rows: str,
    out: Path,
    *,
    choose_threshold: Literal["f1", "f1_macro", "accuracy"] | None = None,
    config: RunConfig | None = None,
) -> Decision:
    """Writes the checkpoint to `out` with a temperature in its weights and, if asked for, thresholds; what was chosen.

    rows: a file with texts and labels. `config` says how it is read and where is computed. Thresholds that the
    checkpoint has give the same labels as before, unless they are chosen anew. UserError for rows that the checkpoint's
    training read, and for a model without probabilities.
    """
    config = replace(config or RunConfig(), eval_file=rows, task=default_task(checkpoint, rows))
    _refuse_known_file(checkpoint, rows)
    found = load(checkpoint, config.device)
    problem = found.problem_type
    if problem == REGRESSION:
        raise UserError(f"{checkpoint}: predicts a number and has no probabilities to calibrate")
    config = replace(as_trained(config, checkpoint), calibrate=True, choose_threshold=choose_threshold)
    check_choices(config, found.label_names, problem)
    data = replace(config, problem_type=problem).data_config()
    examples = load_split(data, label_names=found.label_names)
    _refuse_known_rows(checkpoint, rows, examples.fingerprint)
    linear = found.scorer.model if isinstance(found, LinearPredictor) else None
    if linear is not None:
        logits: npt.NDArray[np.floating[Any]] = linear.scores(linear.encode(examples.texts, examples.pairs)[0])
    else:
        kept = data.cache if isinstance(examples.texts, StoredTexts) else None
        split = tokenize(examples, found.tokenizer, found.max_length, kept, found.cut)
        logits = split_logits(found.model, split, tokens=found.tokens_per_micro_batch, device=found.device).logits
    try:
        chosen = decide(
            config, logits, examples.labels, found.label_names, problem, needed=config.choose_threshold is None
        )
    except UserError as error:
        raise UserError(f"{rows}: {error}") from error
    together = _together(found.decision, chosen, examples.fingerprint)
    if linear is not None:
        own = replace(linear.divided_by(chosen.temperature or 1.0), decision=together)
        save_linear(own, out, found.origin.to_json() if found.origin else None)
    else:
        if chosen.temperature is not None:
            scale_logits(found.model, chosen.temperature)
        found.model.decision = together
        save_pretrained(found.model, out, tokenizer=found.tokenizer)
    if (provenance := provenance_of(str(folder_of(checkpoint)))) is not None:  # the weights are still that run's
        provenance.write(out)
    return together


def _together(before: Decision, chosen: Decision, fingerprint: str) -> Decision:
    """Both temperatures are in the weights now."""
    by = chosen.temperature or 1.0
    thresholds, metric = chosen.thresholds, chosen.threshold_metric
    if thresholds is None and before.thresholds is not None:
        odds = {name: np.log(p) - np.log1p(-p) for name, p in before.thresholds.items()}
        thresholds = {name: float(1 / (1 + np.exp(-value / by))) for name, value in odds.items()}
        metric = before.threshold_metric
    temperature = None if before.temperature is None and chosen.temperature is None else (before.temperature or 1) * by
    return Decision(thresholds, metric, temperature, chosen.rows, fingerprint)


def _refuse_known_file(checkpoint: str, rows: str) -> None:
    made_by = origin_of(folder_of(checkpoint))
    if made_by is None:
        return
    places = (made_by.task, made_by.config.get("eval_file")) if made_by.placed else ()
    by_place = [Path(known) for known in places if known and Path(known).exists() and Path(rows).exists()]
    digests = [digest for one in (made_by, *made_by.earlier) for digest in one.files]
    if any(Path(rows).resolve() in _files(known) for known in by_place) or any(
        digest.is_of(file) for file in files_at(rows) for digest in digests
    ):
        raise UserError(f"{rows}: {checkpoint} was trained or evaluated on this file; give rows that it has not seen")


def _files(place: Path) -> set[Path]:
    return {file.resolve() for file in place.iterdir()} if place.is_dir() else {place.resolve()}


def _refuse_known_rows(checkpoint: str, rows: str, fingerprint: str) -> None:
    try:
        record = json.loads((folder_of(checkpoint).parent / "run.json").read_text())
        known = {
            split["fingerprint"]
            for split in record["dataset"].values()
            if isinstance(split, dict) and "fingerprint" in split
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return
    if fingerprint in known:
        raise UserError(f"{rows}: {checkpoint} was trained or evaluated on these rows; give rows that it has not seen")
