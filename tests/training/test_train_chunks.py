"""Long texts read in chunks: trained on as one text each, exactly, and read alike by whoever uses the checkpoint."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_processes import Together
from test_stops import same, stop_at
from test_train import as_problem, small, trainer
from torch.nn import functional as F

import longread
from longread.data.batches import EpochBatches
from longread.data.config import Cut
from longread.data.cut import pooled
from longread.data.dataset import Prepared, prepare
from longread.data.load import load_task
from longread.errors import UserError
from longread.inference.collate import Chunks
from longread.inference.run import evaluate
from longread.models.classifier import Classifier, build
from longread.problems import MULTI_LABEL, PROBLEM_TYPES, REGRESSION, SINGLE_LABEL, ProblemType
from longread.training import trainer as loop
from longread.training.resolve import resolve, resolve_machine
from longread.training.run import train

LIMIT, STRIDE = 48, 5
CHUNKS = {"truncation": "chunk", "chunk_stride": STRIDE, "max_length": LIMIT, "batch_size": 6}


@pytest.fixture(autouse=True)
def every_step_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_EVENTS", 0.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(resolve(small(tmp_path_factory.mktemp("out"), task="reviews:128", **CHUNKS)).data_config(), LIMIT)


def model_for(data: Prepared, problem: ProblemType = SINGLE_LABEL, dropout: float = 0.0) -> Classifier:
    names = {SINGLE_LABEL: 2, MULTI_LABEL: 3, REGRESSION: 1}
    return build("longformer", vocab_size=data.tokenizer.vocab_size, hidden_size=16, num_attention_heads=2,
                 num_hidden_layers=1, max_length=LIMIT, attention_window=8, dropout=dropout, num_labels=names[problem],
                 problem_type=problem).double()  # fmt: skip


def own_chunks(ids: list[int]) -> list[list[int]]:
    """As the documents say: as long as they may be, each repeats STRIDE tokens, the last one ends with the text."""
    first, *inner, last = ids
    room = LIMIT - 2
    if len(inner) <= room:
        return [ids]
    starts = []
    while not starts or starts[-1] + room < len(inner):
        starts.append(min(len(starts) * (room - STRIDE), len(inner) - room))
    return [[first, *inner[start : start + room], last] for start in starts]


@pytest.mark.parametrize("problem", PROBLEM_TYPES)
@pytest.mark.parametrize("tokens", [1, 100, 100_000])
def test_loss_and_gradients_are_those_of_a_plain_loop_over_the_texts(
    data: Prepared, problem: ProblemType, tokens: int, tmp_path: Path
) -> None:
    given = as_problem(data, problem)
    config = resolve_machine(resolve(small(tmp_path, task="reviews:128", **CHUNKS)), 16)
    run = trainer(model_for(data, problem).train(), given, replace(config, tokens_per_micro_batch=tokens), tmp_path)
    plain = copy.deepcopy(run.model).eval()
    plain.embeddings.lookup = None
    (indices, *_) = EpochBatches(len(given.train), 6, 0, 0)
    found, _ = run.gradients.accumulate(indices, run.gradients.planned([indices], run.step), run.step)
    texts = load_task(config.data_config())[0].texts
    losses, several = [], 0
    for row in indices:
        parts = own_chunks(data.tokenizer.inner.encode(texts[row]).ids)
        several += len(parts) > 1
        logits = torch.cat([plain(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.bool)) for ids in parts])
        own = logits.max(0).values if problem == MULTI_LABEL else logits.mean(0)
        label = torch.tensor(given.train.labels[row])
        if problem == SINGLE_LABEL:
            losses.append(F.cross_entropy(own, label))
        elif problem == MULTI_LABEL:
            losses.append(F.binary_cross_entropy_with_logits(own, label.double()))
        else:
            losses.append((own[0] - label.to(torch.float32)) ** 2)
    assert several >= 4
    wanted = torch.stack(losses).mean()
    wanted.backward()
    assert float(found) == pytest.approx(float(wanted.detach()), rel=1e-12)
    assert run.gradients.table is not None
    word = run.gradients.table.weight
    own = plain.embeddings.word.weight.grad
    assert own is not None
    gradients = {name: p.grad for name, p in run.model.named_parameters() if p is not word and p.grad is not None}
    expected = {name: p.grad for name, p in plain.named_parameters() if name in gradients}
    differences = [(gradients[name] - expected[name]).abs().max() for name in expected]
    differences.append((run.gradients.table.gradient() - own[run.gradients.table.rows]).abs().max())
    assert max(differences) <= 1e-10 * max(gradient.abs().max() for gradient in expected.values())


def test_an_update_is_the_same_however_it_is_cut_and_dealt_out(
    data: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dropout of every kind: a token's random numbers are those of its place in the batch."""
    config = resolve_machine(resolve(small(tmp_path, task="reviews:128", token_dropout=0.1, **CHUNKS)), 16)
    begun = model_for(data, dropout=0.2)

    def two_steps(tokens: int) -> torch.Tensor:
        model = copy.deepcopy(begun)
        run = trainer(model.train(), data, replace(config, tokens_per_micro_batch=tokens), tmp_path)
        steps = EpochBatches(len(data.train), 6, 0, 0)[:2]
        planned = run.gradients.planned(steps, run.step)
        losses = [run._step(indices, planned) for indices in steps]
        return torch.cat([torch.tensor(losses), *(p.detach().flatten() for p in model.parameters())])

    whole = two_steps(100_000)
    for tokens in (1, 130):
        assert (two_steps(tokens) - whole).abs().max() / whole.abs().max() < 1e-10
    for found in Together(3, monkeypatch).run(lambda: two_steps(130)):
        assert (found - whole).abs().max() / whole.abs().max() < 1e-10


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(1, 3))
def test_pooling_in_a_batch_is_that_of_predictions(counts: list[int], labels: int) -> None:
    logits = torch.randn(sum(counts), labels, dtype=torch.float64)
    text_of = np.repeat(np.arange(len(counts)), counts)
    chunks = Chunks.of(np.array(counts), torch.device("cpu"))
    for problem in PROBLEM_TYPES:
        wanted = pooled(logits.numpy(), text_of, len(counts), problem)
        assert np.abs(chunks.pooled(logits, problem).numpy() - wanted).max() < 1e-14


@pytest.mark.parametrize("truncation", ["chunk", "tail"])
def test_a_checkpoint_reads_as_it_was_trained(truncation: str, tmp_path: Path) -> None:
    own = {**CHUNKS, "truncation": truncation, "chunk_stride": STRIDE if truncation == "chunk" else 0}
    config = small(tmp_path, task="reviews:128", dropout=0.2, **own)
    stopped = train(replace(config, out=tmp_path / "again"), on_event=stop_at(9))
    assert stopped.record["status"] == "interrupted"
    run = train(config)
    assert same(run, train(replace(config, out=tmp_path / "again"), resume=True))
    record = run.record
    assert {name: record["config"].get(name, 0) for name in own} == own
    assert (record["truncated_fraction"] == 0) == (truncation == "chunk")
    written = json.loads((run.directory / "checkpoint" / "config.json").read_text())["longread_truncation"]
    cut = Cut(truncation=own["truncation"], chunk_stride=own["chunk_stride"])
    assert Cut.from_json(written, "it") == cut
    clf = longread.load(run.directory)
    assert (clf.cut, clf.max_length) == (cut, LIMIT)
    again = evaluate(replace(config, truncation=None, chunk_stride=0, max_length=None), run.directory).record
    assert again["metrics"]["loss"] == pytest.approx(record["metrics"]["loss"], abs=1e-6)
    assert again["config"]["truncation"] == truncation
    head = evaluate(replace(config, truncation="head", chunk_stride=0), run.directory).record
    assert head["metrics"]["loss"] != pytest.approx(record["metrics"]["loss"], abs=1e-6)
    assert head["run_id"] != again["run_id"]
    texts = load_task(config.data_config())[1].texts
    labels = prepare(config.data_config(), LIMIT).evaluation.labels
    said = clf.predict_proba(texts)[np.arange(len(texts)), labels]
    assert -np.log(said).mean() == pytest.approx(record["metrics"]["loss"], abs=1e-5)
    counts = [(one.tokens == one.tokens_in_text) for one in clf.predict(texts)]
    assert all(counts) == (truncation == "chunk")


def test_further_training_reads_as_the_checkpoint_did(tmp_path: Path) -> None:
    first = train(small(tmp_path, task="reviews:128", epochs=1, **CHUNKS))
    checkpoint = str(first.directory / "checkpoint")
    next_ = {"task": "reviews:128", "init": checkpoint, "epochs": 1, "train_rows": 12, "eval_rows": 8, "threads": 1}
    inherited = longread.train(longread.RunConfig(**next_, out=tmp_path)).record
    assert (inherited["config"]["truncation"], inherited["config"]["chunk_stride"]) == ("chunk", STRIDE)
    assert inherited["config"]["max_length"] == LIMIT
    of_run = longread.train(longread.RunConfig(**next_ | {"init": str(first.directory)}, out=tmp_path)).record
    assert of_run["run_id"] == inherited["run_id"], "a run's folder stands for its checkpoint"
    run = longread.train(longread.RunConfig(**next_, out=tmp_path, truncation="head"))
    assert longread.load(run.directory).cut == Cut(truncation="head")


def test_what_cannot_be_is_said_before_training(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--chunk-stride: only with --truncation chunk"):
        train(small(tmp_path, chunk_stride=4))
    with pytest.raises(UserError, match="--chunk-stride 94: of 96 tokens the tokenizer's 2 marks leave room for 94"):
        train(small(tmp_path, truncation="chunk", chunk_stride=94))
    with pytest.raises(UserError, match="--fill-rows: a text in chunks has no one length"):
        train(small(tmp_path, truncation="chunk", fill_rows=True))
    (tmp_path / "pairs.csv").write_text("left,right,label\n" + "one text,another,a\nthis,that,b\n" * 20)
    with pytest.raises(UserError, match="--truncation chunk: only for single texts"):
        train(small(tmp_path, task=str(tmp_path / "pairs.csv"), truncation="chunk", text_columns=("left", "right")))
    assert not list(tmp_path.glob("runs/*/run.json"))
    for told in ({"truncation": "middle"}, {"chunk_stride": 3}, [], {"truncation": "tail", "chunk_stride": 3}):
        with pytest.raises(UserError, match="the file: longread_truncation"):
            Cut.from_json(told, "the file")
