"""Masked-language modelling: the masks, the loss beside transformers', and a run like any other."""

from __future__ import annotations

import copy
import json
import logging
import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from test_cli import TINY
from test_processes import Together
from torch import Tensor

from longread import records
from longread.cli import main as cli
from longread.config import RunConfig
from longread.data.batches import EpochBatches
from longread.data.dataset import Split
from longread.data.masking import Masking, special_ids, with_mask_token
from longread.data.tokenizer import Encoded, byte_tokenizer
from longread.errors import UserError
from longread.inference.collate import Batch, Masked, make_batch
from longread.models.checkpoint import from_pretrained, save_pretrained
from longread.models.classifier import Classifier, build
from longread.models.families import FAMILIES
from longread.models.masked import add_masked_head, forget_classifier, share_dense
from longread.ops.packed import PackedBatch
from longread.report.pretraining import pretraining_table
from longread.report.runcards import command_of
from longread.training import masked as masked_training
from longread.training import trainer as training
from longread.training.lineage import Provenance, provenance_of
from longread.training.masked import masked_trainer, scored
from longread.training.pretrain import pretrain
from longread.training.run import train
from mechanisms import label, sparse_settings
from peers import batch, random_peer

BYTES = with_mask_token(byte_tokenizer())
CPU = torch.device("cpu")
CONFIG = RunConfig(tokens_per_micro_batch=100, batch_size=8, learning_rate=1e-2, weight_decay=0.1, dropout=0.2)
SMALL = RunConfig(train_rows=40, batch_size=8, hidden_size=16, num_attention_heads=2, vocab_size=300, max_length=96,
                  threads=1, dropout=0.2)  # fmt: skip


def texts(rows: int = 40) -> Split:
    words = np.random.default_rng(0).choice(["good", "bad", "film"], (rows, 7))
    encoded = BYTES.encode([" ".join(own[: 2 + n % 6]) for n, own in enumerate(words)], None, 64)
    return split_of(encoded)


def split_of(encoded: Encoded) -> Split:
    rows = len(encoded.offsets) - 1
    return Split(encoded, np.zeros(rows, dtype=np.uint8), np.arange(rows), "train", "made", (), "", BYTES.marks)


def encoder(attention: str = "dense", **options: Any) -> Classifier:
    model = build(attention, vocab_size=BYTES.vocab_size, hidden_size=16, num_attention_heads=2, max_length=64,
                  dropout=0.2, **options)  # fmt: skip
    add_masked_head(model, "scratch")
    return model


@given(st.lists(st.text(max_size=40), min_size=1, max_size=6), st.floats(0.01, 0.99), st.integers(0, 3))
def test_masks_are_the_rows_own_and_spare_special_tokens(rows: list[str], fraction: float, step: int) -> None:
    split, special = split_of(BYTES.encode([*rows, "<mask> a <pad>"], None, 30)), special_ids(BYTES)
    masking = Masking.of(BYTES, fraction, seed=5)
    every = np.arange(len(split))
    counts = masking.counts(split, every)
    tokens, _ = split.gather(every)
    seen, places, wanted = masking.draw(tokens, split.lengths, every, step)
    assert (wanted == tokens[places]).all() and not {*wanted.tolist()} & special and len(places) == counts.sum()
    others = np.setdiff1d(np.arange(len(tokens)), places)
    assert (seen[others] == tokens[others]).all()
    for row in every:
        own, _ = split.gather(every[[row]])
        alone = masking.draw(own, split.lengths[[row]], every[[row]], step)
        begin = split.encoded.offsets[row]
        assert (alone[0] == seen[begin : begin + len(own)]).all()
        free = sum(token not in special for token in own.tolist())
        assert len(alone[1]) == counts[row] == min(free, max(1, round(free * fraction)))


def test_of_ten_chosen_tokens_eight_are_hidden_and_one_is_another() -> None:
    split = split_of(BYTES.encode(["a" * 20_000], None, 30_000))
    masking, one = Masking.of(BYTES, 0.5, seed=0), np.array([0])
    tokens, _ = split.gather(one)
    seen, places, wanted = masking.draw(tokens, split.lengths, one, 3)
    assert np.mean(seen[places] == masking.mask_id) == pytest.approx(0.8, abs=0.015)
    assert np.mean(seen[places] == wanted) == pytest.approx(0.1, abs=0.015)
    assert not {*seen[places].tolist()} & (special_ids(BYTES) - {masking.mask_id})
    for step, seed in ((4, 0), (None, 0), (3, 1)):
        other = replace(masking, seed=seed).draw(tokens, split.lengths, one, step)[1]
        assert not np.array_equal(places, other)


@pytest.mark.parametrize(("attention", "options"), sparse_settings(), ids=label)
def test_every_mechanism_learns_and_makes_one_update_however_the_batch_is_cut(
    attention: str, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split, masking, begun = texts(), Masking.of(BYTES, 0.15, seed=0), encoder(attention, **options)

    def updates(budget: int = 100) -> Tensor:
        model = copy.deepcopy(begun).double().train()
        config = replace(CONFIG, tokens_per_micro_batch=budget)
        run = masked_trainer(model, split, masking, config, 4, tmp_path, lambda event: None)
        steps = EpochBatches(32, 8, 0, 0)
        planned = run.gradients.planned(steps, 0)
        losses = [run._step(indices, planned) for indices in steps]
        assert 0 < run.sums[1] < run.sums[2]
        return torch.cat([torch.tensor(losses), *(p.detach().flatten() for p in model.parameters())])

    alone = updates()
    every = [updates(1), updates(10_000)]
    for count in (2, 4):
        every += Together(count, monkeypatch).run(updates)
        monkeypatch.undo()
    for found in every:
        assert (found - alone).abs().max() / alone.abs().max() < 1e-10

    model = copy.deepcopy(begun)
    run = masked_trainer(model, split, masking, CONFIG, 40, tmp_path, lambda event: None)
    run.run()
    assert run.evaluation.after.loss < 0.7 * run.evaluation.before.loss  # type: ignore[attr-defined]
    assert run.history[-1]["train_accuracy"] > 0.2
    assert run.evaluation.measured() == run.evaluation.after  # type: ignore[attr-defined]  # the same masks
    for name, tensor in model.head.state_dict().items():
        assert torch.equal(tensor, begun.head.state_dict()[name])


def test_logits_in_parts_have_the_same_loss_and_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    model, split = encoder().double(), texts()
    masking, found = Masking.of(BYTES, 0.3, seed=0), []
    for size in (2**24, 3 * BYTES.vocab_size):
        monkeypatch.setattr(masked_training, "LOGITS_AT_ONCE", size)
        model.zero_grad()
        loss, right = scored(model.eval(), make_batch(split, np.arange(9), CPU, masking=masking, step=0))
        loss.backward()
        found.append(torch.cat([loss.reshape(1), right.reshape(1), *(
            p.grad.flatten() for p in model.parameters() if p.grad is not None)]).detach())  # fmt: skip
    torch.testing.assert_close(*found)


OWN_SETTINGS: dict[str, dict[str, Any]] = {"electra": {"embedding_size": 12}, "longformer": {"attention_window": 6}}


@pytest.mark.parametrize(
    ("family", "own"),
    [
        *((name, OWN_SETTINGS.get(name, {})) for name in FAMILIES if name not in ("xlm-roberta", "camembert")),
        ("modernbert", {"decoder_bias": False}),
    ],
)
def test_heads_are_transformers_own_in_and_out(family: str, own: dict[str, Any], tmp_path: Path) -> None:
    """The loss of ...ForMaskedLM on a random model, before and after it was through our checkpoint."""
    from transformers import AutoModelForMaskedLM

    peer = random_peer(family, masked=True, **own).double()
    peer.save_pretrained(tmp_path / "theirs")
    model = from_pretrained(tmp_path / "theirs")
    assert add_masked_head(model, str(tmp_path / "theirs"))
    forget_classifier(model)
    ids, mask, types = batch(peer, (5, 9, 17))
    chosen = mask & (torch.rand(mask.shape, generator=torch.Generator().manual_seed(0)) < 0.4)
    extra: dict[str, Tensor] = {"token_type_ids": types} if hasattr(peer.config, "type_vocab_size") else {}
    if family == "longformer":
        first = torch.zeros_like(ids)
        first[:, 0] = 1
        extra["global_attention_mask"] = first

    def theirs(model: Any) -> float:
        with torch.no_grad():
            return float(model(ids, attention_mask=mask.long(), labels=ids.masked_fill(~chosen, -100), **extra).loss)

    packed = PackedBatch([5, 9, 17], CPU)
    hidden = Masked(chosen[mask].nonzero().flatten(), ids[chosen])
    rows = Batch(ids[mask], types[mask] if model.config.type_vocab_size else None, torch.zeros(3), packed, None, hidden)
    with torch.no_grad():
        loss, right = scored(model.double(), rows)
    assert float(loss) / int(chosen.sum()) == pytest.approx(theirs(peer), rel=1e-6)
    assert 0 <= int(right) <= int(chosen.sum())

    with torch.no_grad():  # as after some training
        model.masked_head.dense.weight += 0.1  # type: ignore[union-attr]
        share_dense(model)
        if family == "modernbert":  # its classifier has this dense layer, too
            assert torch.equal(model.head.dense.weight, model.masked_head.dense.weight)  # type: ignore[union-attr]
        expected = float(scored(model, rows)[0]) / int(chosen.sum())
    save_pretrained(model.float(), tmp_path / "ours", layout="huggingface")
    again = AutoModelForMaskedLM.from_pretrained(tmp_path / "ours", attn_implementation="eager").eval()
    assert theirs(again) == pytest.approx(expected, rel=1e-4) and again.config.architectures == [type(peer).__name__]
    read = from_pretrained(tmp_path / "ours")
    assert read.loading.head_is_untrained and add_masked_head(read, str(tmp_path / "ours"))


def test_it_is_a_run_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Recorded, skipped when finished, resumed to the same bits; what begins from it names it; no classifier."""
    monkeypatch.setattr(training, "SECONDS_BETWEEN_EVENTS", 0.0)
    config = replace(SMALL, attention="performer", options={"num_features": 8})
    whole = pretrain(replace(config, out=tmp_path / "whole"), steps=7)
    record, place = whole.record, str(whole.directory / "checkpoint")
    assert (record["kind"], record["status"], record["attention"]) == ("pretrain", "ok", "performer")
    assert (record["config"]["steps"], record["config"]["mask_fraction"]) == (7, 0.15)
    assert record["metrics"]["masked_loss"] < record["metrics"]["masked_loss_before"]
    assert np.log(record["metrics"]["masked_perplexity"]) == pytest.approx(record["metrics"]["masked_loss"])
    assert (record["pretraining"]["rows"], record["pretraining"]["held_out_rows"]) == (36, 4)
    events: list[dict[str, Any]] = []
    pretrain(replace(config, out=tmp_path / "whole"), steps=7, on_event=events.append)
    assert [event["event"] for event in events] == ["skipped"]

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and event["step"] == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    stopped = pretrain(replace(config, out=tmp_path / "stopped"), steps=7, on_event=stop)
    assert (stopped.record["status"], stopped.record["run_id"]) == ("interrupted", record["run_id"])
    resumed = pretrain(replace(config, out=tmp_path / "stopped"), steps=7, resume=True)
    a, b = (load_file(run.directory / "checkpoint" / "model.safetensors") for run in (whole, resumed))
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    assert "masked_head.bias" in a and "head.classifier.weight" not in a
    assert resumed.record["metrics"] == record["metrics"]
    card = Path(place, "README.md").read_text()
    assert "its classifier is untrained" in card and "| Guessed right |" in card and "--attention performer" in card

    assert cli.main(["evaluate", place, "--task", "reviews"]) == 2
    assert "no trained text classifier; train one: longread train --init" in capsys.readouterr().err
    on = pretrain(replace(SMALL, attention="performer", init=place, dropout=None, out=tmp_path / "on"), steps=1)
    assert on.record["pretraining"]["head_was_trained"] and not record["pretraining"]["head_was_trained"]
    assert on.record["metrics"]["masked_loss_before"] < record["metrics"]["masked_loss_before"] - 0.01
    tuned = train(RunConfig(attention="performer", init=str(on.directory / "checkpoint"), train_rows=32, eval_rows=16,
                            epochs=1, threads=1, out=tmp_path / "tuned"))  # fmt: skip
    chain = [(a["role"], a["run_id"], a["kind"]) for a in tuned.record["lineage"]]
    assert chain == [("init", on.record["run_id"], "pretrain"), ("init", record["run_id"], "pretrain")]
    card = (tuned.directory / "checkpoint" / "README.md").read_text()
    assert all(f"- behind it: a pretraining, run `{name}`, " in card for _, name, _ in chain)
    assert "masked_head.bias" not in load_file(tuned.directory / "checkpoint" / "model.safetensors")
    table = pretraining_table([on, tuned, whole])
    assert table is not None and [row.cells[9].text for row in table.rows] == ["1", "2"]
    assert table.rows[0].cells[5].text == "{masked_loss_before:.3f} → {masked_loss:.3f}".format(**on.record["metrics"])
    assert command_of(record).startswith("longread pretrain --task reviews --attention performer")
    further = pretrain(RunConfig(attention="performer", init=str(tuned.directory), train_rows=40, threads=1,
                                 out=tmp_path / "further"), steps=1)  # fmt: skip
    assert from_pretrained(further.directory).loading.head_is_untrained  # its layers are no longer the classifier's


def test_a_published_encoder_is_converted_and_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As Longformer was made of RoBERTa: other attention, more positions, its own head; texts in chunks, too."""
    random_peer(
        "roberta", masked=True, vocab_size=BYTES.vocab_size, pad_token_id=0, max_position_embeddings=61
    ).save_pretrained(tmp_path / "roberta")
    BYTES.save(tmp_path / "roberta" / "tokenizer.json")
    config = RunConfig(init=str(tmp_path / "roberta"), attention="longformer", options={"attention_window": 8},
                       max_length=120, train_rows=20, batch_size=8, threads=1, out=tmp_path)  # fmt: skip
    for more in ({}, {"truncation": "chunk", "chunk_stride": 10}):
        with caplog.at_level(logging.INFO, "longread"):
            run = pretrain(replace(config, **more), steps=2)
        assert run.record["pretraining"]["head_was_trained"]
        assert "roberta: goes on with its own head of masked-language modelling" in caplog.text
        written = json.loads((run.directory / "checkpoint" / "config.json").read_text())
        assert written["architectures"] == ["LongformerForMaskedLM"]
        assert "lm_head.dense.weight" in load_file(run.directory / "checkpoint" / "model.safetensors")
        assert (from_pretrained(run.directory).config.max_length, run.record["truncated_fraction"] > 0) == (
            120,
            not more,
        )


@pytest.mark.slow
def test_torchrun_pretrains_what_one_process_pretrains(tmp_path: Path) -> None:
    alone = pretrain(replace(SMALL, out=tmp_path / "alone"), steps=9)
    options = [*TINY[6:], "--steps", "9", "--train-rows", "40", "--batch-size", "8", "--dropout", "0.2"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "longread"]
    done = subprocess.run(
        [*command, "pretrain", "reviews", *options, "--out", str(tmp_path / "two")],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\ncheckpoint: ") == 1, "one process speaks"
    (directory,) = (tmp_path / "two" / "runs").iterdir()
    record = json.loads((directory / "run.json").read_text())
    assert (record["run_id"], record["environment"]["processes"]) == (alone.record["run_id"], 2)
    for key in ("train_loss", "train_accuracy", "masked_loss"):
        lines = [(run / "history.jsonl").read_text().splitlines() for run in (alone.directory, directory)]
        one, two = ([json.loads(line)[key] for line in own] for own in lines)
        assert one == pytest.approx(two, abs=1e-5)


def test_the_command_takes_files_with_texts_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plain.csv").write_text("text\n" + "".join(f"a good film number {n}\n" for n in range(30)))
    Path("some.csv").write_text("text,label\n" + "".join(f"a film {n},{'good' if n % 2 else ''}\n" for n in range(30)))
    Path("all.csv").write_text("text,label\n" + "".join(f"a film {n},{'ab'[n % 2]}\n" for n in range(30)))
    tiny = [*TINY[6:], "--steps", "2", "--batch-size", "8"]
    for file, rows, more in (("plain.csv", 30, []), ("plain.csv", 30, ["--stream"]), ("some.csv", 30, []),
                             ("all.csv", 27, []), ("all.csv", 27, ["--stream"])):  # fmt: skip
        out = f"{file}{len(more)}"
        assert cli.main(["pretrain", file, *tiny, *more, "--out", out]) == 0, capsys.readouterr().err
        assert "loss " in (told := capsys.readouterr().err) and "then" in told
        (run,) = records.load_runs(Path(out))
        assert run.record["dataset"]["train"]["rows"] == rows
        assert run.record["dataset"]["label_names"] == []
    assert cli.main(["train", "plain.csv", *TINY[4:]]) == 2  # still needs labels
    assert "no column 'label'" in capsys.readouterr().err


def test_what_pretraining_cannot_use_is_refused(tmp_path: Path) -> None:
    config = replace(SMALL, out=tmp_path / "out")
    trained = train(replace(SMALL, eval_rows=16, epochs=1, out=tmp_path / "trained"))
    init = RunConfig(train_rows=40, init=str(trained.directory), out=tmp_path / "out")
    for steps, wrong, message in (
        (0, config, "--steps 0: must be 1 or more"),
        (5, replace(config, epochs=3), "epochs: pretraining does not use it"),
        (5, replace(config, attention="tfidf"), "a linear model has no hidden states"),
        (5, replace(config, attention="nothing"), "there is no such mechanism"),
        (5, replace(config, train_rows=3), "3 rows are too few"),
        (5, init, "the tokenizer has no mask token"),
        (5, replace(init, tokenizer="bytes"), "--tokenizer bytes: for a new model; --init brings its own"),
    ):
        with pytest.raises(UserError, match=message):
            pretrain(wrong, steps=steps)
    with pytest.raises(UserError, match="--mask-fraction 1: must be between 0 and 1"):
        pretrain(config, steps=5, mask_fraction=1.0)
    assert not (tmp_path / "out" / "runs").exists()


@pytest.mark.parametrize(
    "changed", [{"kind": "magic"}, {"seconds": "long"}, {"lineage": [{"role": "init"}]}, {"lineage": 3}]
)
def test_a_note_of_its_run_that_is_damaged_is_refused_before_training(changed: dict[str, Any], tmp_path: Path) -> None:
    sound = {"run_id": "a", "kind": "pretrain", "seconds": 2, "lineage": []}
    (tmp_path / "config.json").write_text("{}")
    for told, wrong in ((sound, False), (sound | changed, True)):
        (tmp_path / "longread_run.json").write_text(json.dumps(told))
        with pytest.raises(UserError, match="not what a run writes") if wrong else nullcontext():
            assert provenance_of(str(tmp_path)) == Provenance("a", "pretrain", 2.0)
