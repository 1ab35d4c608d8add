"""A converted model repaired: it comes nearer to the dense one, and says what was done."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from test_cli import TINY
from test_convert import dense, tokens

from longread import records
from longread.cli import main as cli
from longread.data.dataset import Split
from longread.data.tokenizer import Encoded
from longread.errors import UserError
from longread.models.checkpoint import from_pretrained, save_pretrained
from longread.models.convert import convert
from longread.training.distill import repair

KEPT = [*TINY[:6], *TINY[-4:]]  # without the shape of a new model, which a checkpoint brings


def texts(rows: int = 60, longest: int = 36) -> Split:
    generator = np.random.default_rng(0)
    lengths = generator.integers(12, longest, rows)
    ids = generator.integers(4, 60, lengths.sum()).astype(np.int32)
    encoded = Encoded(ids, np.concatenate([[0], np.cumsum(lengths)]), None, np.zeros(rows, dtype=np.bool_))
    return Split(encoded, np.zeros(rows, dtype=np.int64), np.arange(rows), "train", "made", ("a", "b", "c"), "")


@pytest.mark.parametrize(
    ("attention", "options"),
    [
        ("linformer", {"projection_size": 6}),
        ("performer", {"num_features": 8}),
        ("performer", {"num_features": 8, "centred": True, "learned_features": True}),
    ],
)
def test_repair_brings_the_hidden_states_nearer(attention: str, options: dict[str, int], tmp_path: Path) -> None:
    teacher = dense()
    student = convert(teacher, attention, 64, **options)
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    taught = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    done = repair(student, teacher, texts(), minutes=0.05, tokens=400, batch_size=8, learning_rate=3e-3)
    assert done["steps"] > 5
    assert done["distance_after"] < 0.8 * done["distance_before"] and done["kept"] is True
    assert all(torch.equal(taught[name], tensor) for name, tensor in teacher.state_dict().items())
    for name, tensor in student.state_dict().items():
        drawn = ("draws",) if options.get("learned_features") else ("features", "draws")
        trained = name.startswith("blocks.") and not name.endswith(drawn)
        assert torch.equal(before[name], tensor) != trained, name


def test_projections_learn_slower_on_longer_rows() -> None:
    teacher, factors = dense(), []
    for split in (texts(), texts(longest=200)):  # 24 and 106 tokens on average
        student = convert(teacher, "linformer", 256)
        done = repair(student, convert(teacher, "dense", 256), split, minutes=0.002, tokens=400, learning_rate=1e-9)
        assert set(done["faster"]) == {"key_projection", "value_projection"}
        factors.append(done["faster"]["key_projection"])
    assert factors[0] == 10 and 1 < factors[1] < 5


def test_a_repair_that_leads_away_is_undone() -> None:
    teacher = dense()
    student = convert(teacher, "linformer", 64, projection_size=16)
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    done = repair(student, teacher, texts(), minutes=0.01, tokens=400, batch_size=8, learning_rate=3.0)
    assert done["distance_after"] > done["distance_before"] and done["kept"] is False
    assert all(torch.equal(before[name], tensor) for name, tensor in student.state_dict().items())


def test_repair_drops_nothing() -> None:
    teacher = dense(dropout=0.5)
    losses: list[float] = []
    student = convert(teacher, "longformer", 64, attention_window=80).train()  # dense, on rows as short as these
    done = repair(
        student, teacher, texts(), minutes=0.01, tokens=400, on_event=lambda event: losses.append(event["loss"])
    )
    assert losses[0] < 1e-6 and done["distance_before"] < 1e-6


def test_repair_of_too_few_rows_or_another_shape_is_refused() -> None:
    teacher = dense()
    student = convert(teacher, "linformer", 64)
    with pytest.raises(UserError, match="too few"):
        repair(student, teacher, texts(3), minutes=1, tokens=100)
    with pytest.raises(UserError, match="minutes is 0"):
        repair(student, teacher, texts(), minutes=0, tokens=100)
    with pytest.raises(UserError, match="same layers"):
        repair(student, dense(num_hidden_layers=3), texts(), minutes=1, tokens=100)


def test_the_command_converts_repairs_and_can_be_trained_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", *TINY, "--out", "first"]) == 0
    (first,) = records.load_runs(Path("first"))
    order = ["convert", str(first.directory / "checkpoint"), "--attention", "linformer", "--projection-size", "8",
             "--max-length", "128", "--out", "made", "--threads", "1"]  # fmt: skip
    repaired = ["--repair-task", "reviews", "--repair-rows", "24", "--repair-minutes", "0.02"]
    assert cli.main(order + repaired) == 0
    conversion = json.loads(Path("made/config.json").read_text())["longread_conversion"]
    assert (conversion["from"], conversion["to"], conversion["max_length"]) == ("dense", "linformer", 128)
    assert conversion["distillation"]["steps"] >= 1
    assert from_pretrained("made").loading.converted == conversion
    assert cli.main(["train", *KEPT, "--init", "made", "--attention", "linformer", "--out", "second"]) == 0
    (second,) = records.load_runs(Path("second"))
    assert second.record["conversion"] == conversion
    assert cli.main(order) == 2  # what is there is not overwritten
    tiny = [given if KEPT[n - 1] != "--max-length" else "200" for n, given in enumerate(KEPT)]
    longer = ["train", *tiny, "--init", "made", "--attention", "linformer", "--out", "third"]
    assert cli.main(longer) == 0
    (third,) = records.load_runs(Path("third"))
    assert third.record["encoder"]["max_length"] == 200
    assert (third.record["conversion"]["from"], third.record["conversion"]["trained"]) == ("linformer", 128)
    assert cli.main([*longer, "--projection-size", "4"]) == 2  # not ignored: the checkpoint has eight slots


def test_a_conversion_is_remembered_in_hugging_faces_layout_too(tmp_path: Path) -> None:
    converted = convert(dense(), "longformer", 64, attention_window=8)
    save_pretrained(converted, tmp_path / "made", layout="huggingface")
    again = from_pretrained(tmp_path / "made")
    assert again.loading.converted == converted.loading.converted
    with torch.no_grad():
        assert torch.allclose(again.classify(*tokens(30, 9)), converted.classify(*tokens(30, 9)), atol=1e-6)
