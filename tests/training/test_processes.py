"""One run on several processes: the same batch, dealt out, gives the same update; and torchrun, end to end."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from longread.config import RunConfig
from longread.data.batches import EpochBatches, shares
from longread.data.dataset import Prepared, prepare
from longread.models.classifier import build
from longread.system import processes
from longread.training.classification import classification_trainer
from longread.training.resolve import resolve, resolve_machine
from longread.training.run import train

SMALL = RunConfig(
    train_rows=24, eval_rows=8, epochs=2, batch_size=8, hidden_size=16, num_attention_heads=2, vocab_size=300,
    max_length=96, threads=1, token_dropout=0.1, dropout=0.2, weight_decay=0.1,
)  # fmt: skip


@given(st.lists(st.integers(0, 900), max_size=40), st.integers(1, 6))
def test_every_row_is_in_one_share_and_shares_are_alike(lengths: list[int], count: int) -> None:
    ordered = np.sort(np.array(lengths, dtype=np.int64))
    found = shares(ordered, count)
    assert [row for share in found for row in range(share.start, share.stop)] == list(range(len(lengths)))
    assert len(found) == count
    if lengths:
        assert max(ordered[share].sum() for share in found) <= ordered.sum() / count + ordered[-1]


class Together:
    """Threads of this process in place of processes: each is somebody, and sums wait for all."""

    def __init__(self, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.size, self.who, self.given, self.all_here = count, threading.local(), {}, threading.Barrier(count)
        for name in ("count", "rank", "is_first", "add_up", "all_of"):
            monkeypatch.setattr(processes, name, getattr(self, name))

    def count(self) -> int:
        return self.size

    def rank(self) -> int:
        return getattr(self.who, "rank", 0)

    def is_first(self) -> bool:
        return self.rank() == 0

    def exchanged(self, value: object) -> list:
        self.given[self.rank()] = value
        self.all_here.wait(60)
        found = [self.given[rank] for rank in range(self.size)]
        self.all_here.wait(60)
        return found

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        copies = self.exchanged([tensor.detach().clone() for tensor in tensors])
        for tensor, *parts in zip(tensors, *copies, strict=True):
            tensor.copy_(sum(parts))

    def all_of(self, rows: Tensor) -> Tensor:
        return torch.unique(torch.cat(self.exchanged(rows)))

    def run(self, work: Callable[[], Tensor]) -> list[Tensor]:
        def own(rank: int) -> Tensor:
            self.who.rank = rank
            return work()

        with ThreadPoolExecutor(self.size) as pool:
            return list(pool.map(own, range(self.size)))


@pytest.fixture(scope="module")
def data() -> Prepared:
    return prepare(resolve(SMALL).data_config(), 96)


@pytest.mark.parametrize("attention", ["longformer", "performer"])
def test_processes_make_the_update_of_one(
    attention: str, data: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = resolve_machine(resolve(replace(SMALL, attention=attention, class_weights="balanced")), 16)

    begun = build(attention, vocab_size=data.tokenizer.vocab_size, hidden_size=16, num_attention_heads=2,
                  max_length=96, dropout=0.2).double()  # fmt: skip

    def three_steps() -> Tensor:
        model = copy.deepcopy(begun)
        run = classification_trainer(model.train(), data, config, tmp_path, lambda event: None)
        steps = EpochBatches(len(data.train), 8, 0, 0)
        planned = run.gradients.planned(steps, run.step)
        losses = [run._step(indices, planned) for indices in steps]
        return torch.cat([torch.tensor(losses), *(p.detach().flatten() for p in model.parameters())])

    alone = three_steps()
    for count in (2, 4):
        for found in Together(count, monkeypatch).run(three_steps):
            assert (found - alone).abs().max() / alone.abs().max() < 1e-10


def test_torchrun_trains_what_one_process_trains(tmp_path: Path) -> None:
    alone = train(replace(SMALL, out=tmp_path / "alone"))
    options = [
        part
        for name, value in vars(replace(SMALL, out=tmp_path / "two")).items()
        if value != getattr(RunConfig(), name)
        for part in (f"--{name.replace('_', '-')}", str(value))
    ]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "longread"]
    done = subprocess.run([*command, "train", *options], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\nrun: ") == 1, "one process speaks"
    (directory,) = (tmp_path / "two" / "runs").iterdir()
    record = json.loads((directory / "run.json").read_text())
    assert (record["status"], record["environment"]["processes"]) == ("ok", 2)
    for key in ("train_loss", "eval_loss"):
        lines = [(run / "history.jsonl").read_text().splitlines() for run in (alone.directory, directory)]
        one, two = ([json.loads(line)[key] for line in own] for own in lines)
        assert one == pytest.approx(two, abs=1e-5)
