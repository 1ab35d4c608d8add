"""A converted encoder taught to follow the dense one it came from, on a task's own texts; their labels are not read.

Every hidden state is compared, as in TinyBERT (Jiao et al. 2020, section 3.1), and where the teacher's classifier is
trained, its outputs too (Hinton et al. 2015).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from longread.attention import SelfAttention
from longread.data.dataset import Split, epoch_batches, micro_batches
from longread.errors import UserError
from longread.inference.collate import Batch, make_batch
from longread.models.classifier import Classifier

Event = dict[str, Any]
HELD_OUT_ROWS = 128
WARM_UP = 0.05  # of the budget
SECONDS_BETWEEN_EVENTS = 0.5


def repair(
    student: Classifier,
    teacher: Classifier,
    split: Split,
    *,
    minutes: float,
    tokens: int,
    batch_size: int = 32,
    learning_rate: float = 1e-4,
    precision: str = "float32",
    seed: int = 0,
    on_event: Callable[[Event], None] = lambda event: None,
) -> dict[str, Any]:
    """Trains the blocks of `student` in place for `minutes`; what was done, for the record.

    `split` holds rows of at most `teacher.config.max_length` tokens; some are held out to measure the distance before
    and after: squared difference of the hidden states in parts of the teacher's variance, mean over layers. The
    embedding and the head stay as they are, nothing is dropped; what the student's mechanism has and dense
    attention has not learns faster, as its class says. Where the distance grew, `student` gets its
    weights back ("kept" is False); "faster" has the factors of the rate. UserError where there are too few rows, or
    models that do not match.
    """
    if student.config.hidden_size != teacher.config.hidden_size or len(student.blocks) != len(teacher.blocks):
        raise UserError("repair: teacher and student must have the same layers and hidden size")
    if len(split) < 4:
        raise UserError(f"repair: {len(split)} rows are too few to learn from; give 4 or more")
    if not minutes > 0:
        raise UserError(f"repair: minutes is {minutes}; it must be above 0")
    order = np.random.default_rng([seed, 2]).permutation(len(split))
    held_out = order[: min(HELD_OUT_ROWS, len(split) // 4)]
    rows = order[len(held_out) :]
    # Without dropout: its noise is of the size of what a taught student still differs by; hardly a text is seen twice.
    run = _Repair(student.eval(), teacher, split, tokens, precision)
    before = run.distance(held_out)
    given = {name: tensor.detach().clone() for name, tensor in student.blocks.state_dict().items()}
    mean_length = float(split.lengths[rows].mean())
    factors = {
        f"{place}.{name}": factor
        for place, layer in student.blocks.named_modules()
        if isinstance(layer, SelfAttention)
        for name, factor in layer.distillation_factors(mean_length).items()
    }
    groups: list[dict[str, Any]] = [
        {"params": [p], "rate": learning_rate * factors.get(name, 1.0)}
        for name, p in student.blocks.named_parameters()
        if p.requires_grad
    ]
    trained = [p for group in groups for p in group["params"]]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, weight_decay=0.0, fused=True)
    steps, began, last_event = 0, time.monotonic(), 0.0
    done = 0.0  # of the budget
    while done < 1:
        for places in epoch_batches(len(rows), batch_size, seed, steps):
            loss = run.step(rows[places])
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            for group in optimizer.param_groups:
                group["lr"] = group["rate"] * min(1.0, (done + 0.01) / WARM_UP) * (1 - done)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            steps += 1
            now = time.monotonic()
            done = min(1.0, (now - began) / (60 * minutes))
            if now - last_event > SECONDS_BETWEEN_EVENTS:
                last_event = now
                left = 60 * minutes - (now - began)
                on_event({"event": "repair", "step": steps, "done": done, "loss": loss, "seconds_left": max(0.0, left)})
            if done >= 1:
                break
    after = run.distance(held_out)
    if not (kept := after <= before):
        student.blocks.load_state_dict(given)
    return {
        "task": split.task,
        "rows": len(rows),
        "steps": steps,
        "rows_seen": steps * batch_size,
        "seconds": time.monotonic() - began,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "faster": {name.rpartition(".")[2]: factor for name, factor in factors.items() if name in given},
        "precision": precision,
        "seed": seed,
        "longest_row": int(split.lengths.max()),
        "distance_before": before,
        "distance_after": after,
        "kept": kept,
    }


class _Repair:
    def __init__(self, student: Classifier, teacher: Classifier, split: Split, tokens: int, precision: str) -> None:
        self.student, self.teacher, self.split = student, teacher.eval(), split
        self.tokens, self.low = tokens, precision == "bfloat16"
        self.device = next(student.parameters()).device
        self.with_outputs = not (teacher.loading and teacher.loading.head_is_untrained)

    def step(self, indices: np.ndarray) -> float:
        """Gradients of one batch -> its loss."""
        total, tokens = 0.0, float(self.split.lengths[indices].sum())
        with torch.autocast(self.device.type, torch.bfloat16, self.low):
            for part in micro_batches(indices, self.split.lengths, self.tokens):
                batch = make_batch(self.split, part, self.device)
                share = batch.rows.offsets[-1] / tokens
                loss = self._loss(batch) * share
                with torch.autocast(self.device.type, enabled=False):
                    loss.backward()  # type: ignore[no-untyped-call]
                total += float(loss.detach())
        return total

    @torch.no_grad()
    def distance(self, indices: np.ndarray) -> float:
        total, tokens = 0.0, 0.0
        for part in micro_batches(indices, self.split.lengths, self.tokens):
            batch = make_batch(self.split, part, self.device)
            theirs = self.teacher.hidden_states(batch.tokens, batch.rows, batch.types)
            own = self.student.hidden_states(batch.tokens, batch.rows, batch.types)
            total += float(_distance(own, theirs)) * batch.rows.offsets[-1]
            tokens += batch.rows.offsets[-1]
        return total / tokens

    def _loss(self, batch: Batch) -> Tensor:
        with torch.no_grad():
            theirs = self.teacher.hidden_states(batch.tokens, batch.rows, batch.types)
        own = self.student.hidden_states(batch.tokens, batch.rows, batch.types)
        loss = _distance(own, theirs)
        if self.with_outputs:
            wanted = self.teacher.head(self.teacher.pool(theirs[-1], batch.rows)).detach().float()
            given = self.student.head(self.student.pool(own[-1], batch.rows)).float()
            loss = loss + F.kl_div(given.log_softmax(1), wanted.log_softmax(1), reduction="batchmean", log_target=True)
        return loss


def _distance(own: list[Tensor], theirs: list[Tensor]) -> Tensor:
    """Mean over the blocks' hidden states [T, hidden] of |own - theirs|² / |theirs - their mean|²."""
    parts = []
    for mine, target in zip(own[1:], theirs[1:], strict=True):
        target = target.float()
        spread = (target - target.mean(0)).square().mean().clamp(min=1e-12)
        parts.append((mine.float() - target).square().mean() / spread)
    return torch.stack(parts).mean()
