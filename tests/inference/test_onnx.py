"""An exported file answers as the checkpoint that it was made of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from test_padded import sharp_model

from longread.cli.main import main
from longread.data.tokenizer import load_tokenizer, train_tokenizer
from longread.errors import UserError
from longread.inference.origin import Origin
from longread.inference.predictor import Predictor, load
from longread.inference.scoring import TorchScorer
from longread.models.export import export

pytest.importorskip("onnxruntime")
from longread.inference.onnx import load_onnx

WORDS = ["a", "long", "warm", "funny", "film", "that", "crashes", "at", "once", "and", "works", "so", "well"]


def test_the_file_answers_by_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = train_tokenizer([" ".join(WORDS)] * 3, 50 + 256, True)
    tokenizer.save(tmp_path / "tokenizer.json")
    shape = {"attention_window": 6, "vocab_size": 306, "num_hidden_layers": 1}
    model = sharp_model("longformer", shape, label_names=("no", "yes")).float()
    model.tokenizer_file = tmp_path / "tokenizer.json"
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"model_max_length": 24, "model_input_names": ["input_ids"]})
    )
    checkpoint = Predictor(TorchScorer(model), load_tokenizer(tmp_path / "tokenizer.json"), ("no", "yes"), "given")
    trained_on = Origin("t.csv", {"text_columns": ["left", "right"]}, None).to_json()
    loaded = load(export(model, tmp_path / "model.onnx", trained_on=trained_on))
    assert loaded.classes_.tolist() == ["no", "yes"]
    assert loaded.origin is not None and loaded.origin.text_columns == ("left", "right")
    assert (loaded.max_length, loaded.tokenizer.config.token_types) == (24, False)
    texts = [" ".join(WORDS[: n % 13 + 1] * (n % 9 + 1)) for n in range(30)]
    for pairs in (None, texts[::-1]):
        assert np.abs(loaded.predict_proba(texts, pairs) - checkpoint.predict_proba(texts, pairs)).max() < 1e-5
        read = [(p.tokens, p.tokens_in_text) for p in loaded.predict(texts, pairs)]
        assert read == [(p.tokens, p.tokens_in_text) for p in checkpoint.predict(texts, pairs)]
        assert 0 < sum(tokens < whole for tokens, whole in read) < len(read)
    assert main(["predict", str(tmp_path / "model.onnx"), texts[3]]) == 0
    assert json.loads(capsys.readouterr().out)["label"] == checkpoint.predict(texts[3:4])[0].label
    with pytest.raises(UserError, match="only predicts"):
        loaded.explain(texts)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no graph")
    with pytest.raises(UserError, match="not an ONNX file"):
        load_onnx(tmp_path / "bad.onnx")
    bare = export(sharp_model("dense", {}, num_hidden_layers=1).float(), tmp_path / "bare.onnx")
    with pytest.raises(UserError, match="no tokenizer"):
        load_onnx(bare)
    bare.write_bytes(bare.read_bytes().replace(b'"token_types"', b'"token_tipes"'))
    with pytest.raises(UserError, match="carries no label names"):
        load_onnx(bare)
    model = sharp_model("dense", {"vocab_size": 306}, num_hidden_layers=1).float()
    train_tokenizer([" ".join(WORDS)] * 3, 50 + 256, True).save(tmp_path / "tokenizer.json")
    model.tokenizer_file = tmp_path / "tokenizer.json"
    whole = export(model, tmp_path / "whole.onnx").read_bytes()
    for old, new, message in (
        (b"input_ids", b"input_idz", "its inputs are not attention_mask, input_ids"),
        (b'"LABEL_1"', b'"LABEL_0"', "two labels have the same name"),
    ):
        assert old in whole
        bare.write_bytes(whole.replace(old, new))
        with pytest.raises(UserError, match=message):
            load_onnx(bare)
