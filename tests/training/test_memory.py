"""A step that does not fit into memory is done again in smaller micro-batches: the same update, said and recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_stops import Killed, kill_at, same
from test_train import small, trainer

from longread.data.dataset import prepare
from longread.inference import evaluate
from longread.models.classifier import Classifier, build
from longread.system import processes
from longread.training import trainer as training
from longread.training.classification import Classification
from longread.training.resolve import resolve, resolve_machine
from longread.training.run import train

FITS = 450  # tokens
WHOLE = {"max_length": 256}
CHUNKS = {"task": "reviews:128", "truncation": "chunk", "chunk_stride": 5, "max_length": 48}  # 288 to 432 tokens
CPU_TEXT = "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"


@pytest.fixture
def failures(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of more tokens than FITS the loss cannot be computed, but for the first time; how many were tried."""
    tried: list[int] = []
    loss, calls = Classification.loss, 0

    def limited(self: Classification, model: Classifier, batch: Any) -> Any:
        nonlocal calls
        calls += 1
        if len(batch.tokens) > FITS and calls > 1:
            tried.append(len(batch.tokens))
            raise RuntimeError(CPU_TEXT) if len(tried) % 2 else torch.OutOfMemoryError("CUDA out of memory")
        return loss(self, model, batch)

    monkeypatch.setattr(Classification, "loss", limited)
    monkeypatch.setattr(training, "SECONDS_BETWEEN_EVENTS", 0.0)
    return tried


@pytest.mark.parametrize("texts", [WHOLE, CHUNKS])
def test_a_failed_allocation_gives_the_same_update_in_smaller_parts(
    failures: list[int], texts: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"dropout": 0.2, "token_dropout": 0.1, "average_weights": 0.9} | texts
    run = train(small(tmp_path / "not", tokens_per_micro_batch=2 * FITS, **settings))
    whole = train(small(tmp_path / "fits", tokens_per_micro_batch=FITS, **settings))
    assert len(failures) == 1 and "step 1 did not fit into memory" in caplog.text
    assert run.record["status"] == "ok" and same(whole, run)
    assert run.record["config"]["batch_size"] == whole.record["config"]["batch_size"]
    assert run.record["config"]["tokens_per_micro_batch"] == 2 * FITS
    assert run.record["tokens_per_micro_batch_that_fit"] == FITS
    assert "tokens_per_micro_batch_that_fit" not in whole.record
    for name in ("metrics", "padded_fraction", "effective_attention"):
        assert run.record[name] == pytest.approx(whole.record[name], abs=1e-6)


def test_what_did_not_fit_is_not_tried_again_after_a_stop(failures: list[int], tmp_path: Path) -> None:
    config = small(tmp_path, tokens_per_micro_batch=2 * FITS, dropout=0.2, save_seconds=0, **WHOLE)
    with pytest.raises(Killed):
        train(config, on_event=kill_at(5))
    tried = len(failures)
    run = train(config, resume=True)
    assert run.record["status"] == "ok" and len(failures) == tried
    assert run.record["tokens_per_micro_batch_that_fit"] == FITS


def test_of_several_processes_none_does_a_step_again(
    failures: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = resolve_machine(resolve(small(tmp_path, tokens_per_micro_batch=2 * FITS, **WHOLE)), 16)
    data = prepare(config.data_config(), 256)
    model = build("longformer", vocab_size=data.tokenizer.vocab_size, hidden_size=16, num_attention_heads=2,
                  num_hidden_layers=1, max_length=256, attention_window=8)  # fmt: skip
    run = trainer(model, data, config, tmp_path)
    indices = np.arange(32)
    run.gradients.accumulate(indices, run.gradients.planned([indices], 0), 0)
    assert len(failures) == 1 and run.gradients.tokens == FITS
    run.gradients.tokens = 2 * FITS
    monkeypatch.setattr(processes, "count", lambda: 2)
    with pytest.raises((RuntimeError, torch.OutOfMemoryError), match="memory"):
        run.gradients.accumulate(indices, run.gradients.planned([indices], 0), 0)


def test_a_single_text_that_does_not_fit_ends_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def never(self: Classification, model: Classifier, batch: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(Classification, "loss", never)
    assert train(small(tmp_path)).record["status"] == "out_of_memory"


@pytest.mark.parametrize("texts", [WHOLE, CHUNKS])
def test_answers_are_computed_in_smaller_parts(
    monkeypatch: pytest.MonkeyPatch, texts: dict[str, Any], tmp_path: Path
) -> None:
    whole = train(small(tmp_path / "fits", dropout=0.2, **texts))
    classify = Classifier.classify
    tried = []

    def limited(self: Classifier, tokens: torch.Tensor, *rest: Any) -> torch.Tensor:
        if not torch.is_grad_enabled() and len(tokens) > FITS:
            tried.append(len(tokens))
            raise RuntimeError(CPU_TEXT)
        return classify(self, tokens, *rest)

    monkeypatch.setattr(Classifier, "classify", limited)
    run = train(small(tmp_path / "not", dropout=0.2, **texts))
    assert tried and run.record["status"] == "ok" and same(whole, run)
    assert run.record["metrics"] == pytest.approx(whole.record["metrics"], abs=1e-5)
    monkeypatch.setattr(evaluate, "is_failed_allocation", lambda error: False)
    assert train(small(tmp_path / "refused", dropout=0.2, **texts)).record["status"] == "out_of_memory"
