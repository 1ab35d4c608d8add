"""Exported graphs answer as the model does, at lengths below, at and above windows, blocks and projections."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from test_padded import sharp_model

from longread.cli.main import main
from longread.errors import UserError
from longread.models.classifier import Classifier
from longread.models.export import METADATA, export
from longread.models.padded import PaddedClassifier
from mechanisms import label, sparse_settings

ort = pytest.importorskip("onnxruntime")


def answers(session: ort.InferenceSession, *inputs: torch.Tensor) -> torch.Tensor:
    named = zip(("input_ids", "attention_mask", "token_type_ids"), inputs, strict=True)
    return torch.from_numpy(session.run(None, {name: tensor.numpy() for name, tensor in named})[0])


def batches(model: Classifier) -> list[tuple[torch.Tensor, ...]]:
    """Every length up to the longest is one of these, alone and in company."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for count, length in ((1, 1), (2, 2), (3, 7), (1, 31), (4, 58), (2, 96), (3, model.config.max_length)):
        ids, types = (torch.randint(high, (count, length), generator=generator) for high in (50, 2))
        mask = torch.arange(length) < torch.randint(1, length + 1, (count, 1), generator=generator)
        mask[0] = True
        found.append((ids, mask.long(), types))
    return found


WITH_A_BIAS = [
    ("dense", {"relative_buckets": 12}),
    ("longformer", {"relative_buckets": 12, "attention_window": 6}),
    ("linformer", {"relative_buckets": 12, "projection_size": 7}),
    ("performer", {"relative_buckets": 12}),
]


@pytest.mark.parametrize(("attention", "options"), [*sparse_settings(), *WITH_A_BIAS], ids=label)
def test_onnx_answers_as_the_model_does(attention: str, options: dict, tmp_path: Path) -> None:
    layers = 2 if (attention, options) == ("dense", {}) else 1  # a second one is what most of the time goes to
    model = sharp_model(attention, options, num_hidden_layers=layers).float()
    session = ort.InferenceSession(str(export(model, tmp_path / "model.onnx")))
    described = json.loads(session.get_modelmeta().custom_metadata_map[METADATA])
    assert described["labels"] == ["LABEL_0", "LABEL_1"] and described["max_length"] == 97
    for ids, mask, types in batches(model):
        with torch.inference_mode():
            expected = model(ids, mask.bool(), types)
        torch.testing.assert_close(answers(session, ids, mask, types), expected, rtol=1e-4, atol=1e-4)


def test_int8_is_near_and_smaller(tmp_path: Path) -> None:
    model = sharp_model("dense", {"hidden_size": 64}, num_labels=3, num_hidden_layers=1).float()
    plain, small = (export(model, tmp_path / f"{int8}.onnx", int8=int8) for int8 in (False, True))
    assert small.stat().st_size < 0.6 * plain.stat().st_size
    ids, mask, types = batches(model)[4]
    difference = answers(ort.InferenceSession(str(small)), ids, mask, types) - answers(
        ort.InferenceSession(str(plain)), ids, mask, types
    )
    assert 0 < float(difference.abs().max()) < 0.5


@pytest.mark.parametrize(
    ("attention", "options"),
    [
        ("dense", {"hidden_size": 128}),  # as wide as what takes another product for many tokens than for few
        ("longformer", {"attention_window": 6}),
        ("bigbird", {"block_size": 3, "num_random_blocks": 1}),
    ],
    ids=label,
)
def test_the_archive_of_torch_export(attention: str, options: dict, tmp_path: Path) -> None:
    model = sharp_model(attention, options, num_hidden_layers=1).float()
    loaded = torch.export.load(str(export(model, tmp_path / "model.pt2"))).module()
    for inputs in batches(model):
        with torch.inference_mode():
            torch.testing.assert_close(loaded(*inputs), PaddedClassifier(model)(*inputs), rtol=1e-4, atol=1e-4)


def test_wrong_orders_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = sharp_model("dense", {})
    with pytest.raises(UserError, match="ending"):
        export(model, tmp_path / "model.txt")
    with pytest.raises(UserError, match="int8"):
        export(model, tmp_path / "model.pt2", int8=True)
    assert main(["export", "somewhere", "--out", "model.bin"]) == 2
    assert "ending" in capsys.readouterr().err
    assert np.array_equal(list(tmp_path.iterdir()), [])
    (tmp_path / "mine.onnx").write_text("mine")
    assert main(["export", "somewhere", "--out", str(tmp_path / "mine.onnx")]) == 2
    assert "--overwrite replaces it" in capsys.readouterr().err
