"""An exported file answers as the checkpoint that it was made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_padded import sharp_model

from longread.data.tokenizer import train_tokenizer
from longread.errors import UserError
from longread.inference.predictor import Predictor
from longread.models.export import export

pytest.importorskip("onnxruntime")
from longread.inference.onnx import load_onnx, predict

WORDS = ["a", "long", "warm", "funny", "film", "that", "crashes", "at", "once", "and", "works", "so", "well"]


def test_the_file_answers_by_itself(tmp_path: Path) -> None:
    tokenizer = train_tokenizer([" ".join(WORDS)] * 3, 50 + 256, True)
    tokenizer.save(tmp_path / "tokenizer.json")
    model = sharp_model("longformer", {"attention_window": 6, "vocab_size": 306, "label_names": ("no", "yes")}).float()
    model.tokenizer_file = tmp_path / "tokenizer.json"
    loaded = load_onnx(export(model, tmp_path / "model.onnx"))
    assert loaded.label_names == ("no", "yes")
    texts = [" ".join(WORDS[: n % 13 + 1] * (n % 9 + 1)) for n in range(30)]
    for pairs in (None, texts[::-1]):
        own = Predictor(model, tokenizer, ("no", "yes"), "given").predict(texts, pairs)
        expected = np.array([[p.probabilities["no"], p.probabilities["yes"]] for p in own])
        assert np.abs(predict(loaded, texts, pairs) - expected).max() < 1e-5


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no graph")
    with pytest.raises(UserError, match="not an ONNX file"):
        load_onnx(tmp_path / "bad.onnx")
    with pytest.raises(UserError, match="no tokenizer"):
        load_onnx(export(sharp_model("dense", {}).float(), tmp_path / "bare.onnx"))
