"""Weights, gradients and moments in shards: the losses and the weights of one process that has all of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_lost import SMALL, found, history, stops
from test_train import weights

from longread.cli.main import main
from longread.config import RunConfig
from longread.training import trainer
from longread.training.run import train
from many import on_processes

# A batch of few tokens at once: processes have different numbers of micro-batches, and some have none.
CONFIG = replace(RunConfig(**SMALL), attention="bigbird", token_dropout=0.1, gradient_clip=0.05, batch_size=7,
                 tokens_per_micro_batch=200, num_hidden_layers=2, choose_epoch="best")  # fmt: skip


def sharded(config: RunConfig, step: int | None) -> tuple[int, int]:
    """As `stops`; how many numbers of the weights and of one of the moments were here."""
    kept: list[trainer.Trainer] = []
    begin = trainer.Trainer.run

    def noted(self: trainer.Trainer, state: Any) -> None:
        kept.append(self)
        begin(self, state)

    trainer.Trainer.run = noted  # type: ignore[method-assign]
    stops(config, step)
    (one,) = kept
    moments = [values["exp_avg"] for values in one.optimizer.state_dict()["state"].values()]
    return sum(t.to_local().numel() for t in moments), one.model.num_parameters  # type: ignore[union-attr]


def test_shards_train_and_resume_as_the_whole(tmp_path: Path) -> None:
    on_processes(1, tmp_path / "one", stops, replace(CONFIG, out=tmp_path / "one"), None)
    lines, whole = history(tmp_path / "one"), weights(found(tmp_path / "one"))

    def check(out: Path) -> None:
        assert found(out).record["status"] == "ok"
        assert found(out).record["metrics"]["loss"] == pytest.approx(found(tmp_path / "one").record["metrics"]["loss"])
        for line, own in zip(lines, history(out), strict=True):
            assert own["train_loss"] == pytest.approx(line["train_loss"], rel=1e-10)
            assert own["eval_loss"] == pytest.approx(line["eval_loss"], abs=1e-6)
        made = weights(found(out))
        assert made.keys() == whole.keys()
        assert all(torch.allclose(made[name], whole[name], rtol=1e-8, atol=1e-10) for name in made)

    config = replace(CONFIG, out=tmp_path / "two", shard=True)
    ended = on_processes(2, tmp_path / "two", sharded, config, None)
    (mine, every), (theirs, _) = (one.result for one in ended)
    assert mine + theirs == every and max(mine, theirs) < 0.55 * every
    check(tmp_path / "two")
    out = tmp_path / "other"
    on_processes(2, out / "2", stops, replace(CONFIG, out=out, shard=True), 4)
    on_processes(3, out / "3", stops, replace(CONFIG, out=out, shard=True), 6, True)
    on_processes(1, out / "1", stops, replace(CONFIG, out=out), None)
    check(out)


def in_float32(config: RunConfig) -> None:
    torch.set_default_dtype(torch.float32)
    train(config)


def test_shards_in_float32_as_a_user_has_it(tmp_path: Path) -> None:
    """The sums over processes of float64 and of float32 take different ways through torch."""
    for count in (1, 2):
        out = tmp_path / str(count)
        ended = on_processes(count, out, in_float32, replace(CONFIG, out=out, shard=count > 1, epochs=1))
        assert [one.code for one in ended] == [0] * count, ended[0].said
    one, two = (history(tmp_path / str(count)) for count in (1, 2))
    assert two[-1]["train_loss"] == pytest.approx(one[-1]["train_loss"], rel=1e-5)


def test_shards_are_for_several_processes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--shard", "--out", str(tmp_path)]) == 2
    assert "--shard: only with several processes; start them with torchrun" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
