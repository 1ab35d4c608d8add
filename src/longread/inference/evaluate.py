"""Predictions of a model for all rows of a split; what they are worth is in metrics.py."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from longread.data.batches import micro_batches
from longread.data.dataset import Split
from longread.inference.collate import Usage, make_batch, planned_batches
from longread.inference.metrics import answers_of, mean_loss
from longread.models.classifier import Classifier
from longread.system import processes, sharding
from longread.system.measure import Stopwatch
from longread.system.memory import is_failed_allocation

log = logging.getLogger("longread")


@dataclass(frozen=True)
class Scores:
    """Of all rows of a split, in its order: logits [R, C], and what they took."""

    logits: npt.NDArray[np.float32]
    seconds: float
    cpu_seconds: float
    usage: Usage


@dataclass(frozen=True)
class Predictions:
    """Of all rows of a split, in its order: answers [R, C] (metrics.py), the mean loss, and what they took."""

    answers: npt.NDArray[np.float32]
    loss: float
    seconds: float
    cpu_seconds: float
    usage: Usage


def predict_split(
    model: Classifier, split: Split, *, tokens: int, device: torch.device, precision: str = "float32"
) -> Predictions:
    """Answers for every row, as `split_logits` computes the logits."""
    scores = split_logits(model, split, tokens=tokens, device=device, precision=precision)
    answers = answers_of(scores.logits, split.problem_type)
    loss = mean_loss(scores.logits, split.labels, split.problem_type)
    return Predictions(answers, loss, scores.seconds, scores.cpu_seconds, scores.usage)


def split_logits(
    model: Classifier,
    split: Split,
    *,
    tokens: int,
    device: torch.device,
    precision: str = "float32",
    alone: bool = False,
) -> Scores:
    """Logits of every row. Sorted by length, so hardly anything is padded; `tokens` bounds memory.

    On several processes each computes a share and all get the whole; `alone`: the split is this process's own. On one,
    where that many do not fit into memory, all is done again with half as many at a time.
    """
    was_training = model.training
    if was_training:
        model.eval()
    try:
        while True:
            try:
                return _split_logits(model, split, tokens, device, precision, alone)
            except Exception as error:
                shortest = int(split.lengths.min()) if len(split) else 0
                on_one = (alone or processes.count() == 1) and not sharding.is_sharded(model)
                if not (is_failed_allocation(error) and on_one and tokens > shortest):
                    raise
            tokens = max(1, tokens // 2)
            log.warning("the texts did not fit into memory: they are read again, %d tokens at a time", tokens)
    finally:
        if was_training:
            model.train()


def _split_logits(
    model: Classifier, split: Split, tokens: int, device: torch.device, precision: str, alone: bool
) -> Scores:
    usage = Usage()
    logits = np.zeros((len(split), model.config.num_labels), dtype=np.float32)
    watch = Stopwatch(device)
    sharded = sharding.is_sharded(model)
    # Shards that were gathered here are used again in training, which torch refuses behind its inference mode.
    without_gradients = torch.no_grad() if sharded else torch.inference_mode()
    with watch, without_gradients, torch.autocast(device.type, torch.bfloat16, precision == "bfloat16"):
        every = list(micro_batches(np.arange(len(split)), split.lengths, tokens))
        # Each row is some process's.
        parts = every if alone else every[processes.rank() :: processes.count()]
        # Where weights are in shards, all processes compute equally often.
        idle = -(-len(every) // processes.count()) - len(parts) if sharded else 0
        batches = planned_batches(
            model, (make_batch(split, part, device) for part in [*parts, *every[:1] * idle]), precision=precision
        )
        found = []  # read when all have run: a device that is asked at once waits for the answer to be fetched
        for batch in batches:
            own = model.classify(batch.tokens, batch.packed, batch.types).float()
            found.append(batch.by_text(own, split.problem_type))
            if len(found) <= len(parts):
                usage.add(model, batch.packed)
        for part, some in zip(parts, found[: len(parts)], strict=True):
            logits[part] = some.cpu().numpy()
        if not alone:
            processes.add_up([torch.from_numpy(logits)])
            usage = usage.of_all_processes()
    return Scores(logits, watch.seconds, watch.cpu_seconds, usage)
