"""Tokenizers of checkpoints that have vocabulary files and no tokenizer.json."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from longread.data.tokenizer_files import tokenizer_file
from longread.errors import UserError

TEXTS = ["The low lowest lower, Lów!", "low\u00e9</s>  newer", ""]


SPECIAL = {
    "bert": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
    "mpnet": ["<s>", "<pad>", "</s>", "[UNK]", "<mask>"],
}


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("told", ["tokenizer_config.json", "config.json"])
@pytest.mark.parametrize(
    ("model_type", "name"),
    [("bert", "BertTokenizer"), ("electra", "BertTokenizer"), ("distilbert", "DistilBertTokenizer"),
     ("mpnet", "MPNetTokenizer")],
)  # fmt: skip
def test_a_vocab_txt_becomes_a_tokenizer(
    model_type: str, name: str, told: str, lower: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its family is told by the tokenizer's class, or by the model's type alone."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer

    monkeypatch.setenv("LONGREAD_CACHE", str(tmp_path / "cache"))
    special = SPECIAL["mpnet" if model_type == "mpnet" else "bert"]
    words = [*special, "the", "The", "low", "##est", "##er", "new", ",", "!", "L"]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
    settings: dict[str, Any] = {"do_lower_case": lower}
    if told == "config.json":
        (tmp_path / told).write_text(json.dumps({"model_type": model_type}))
    else:
        settings["tokenizer_class"] = f"{name}Fast"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    theirs = getattr(transformers, name).from_pretrained(tmp_path, do_lower_case=lower)
    found = tokenizer_file(tmp_path)
    assert found is not None
    assert found == tokenizer_file(tmp_path)
    own = Tokenizer.from_file(str(found))
    assert not (tmp_path / "tokenizer.json").exists()
    for text in (*TEXTS, f"the  {special[-1]} low"):
        assert own.encode(text).ids == theirs(text)["input_ids"]
        pair = own.encode(text, "new low")
        expected = theirs(text, "new low")
        assert pair.ids == expected["input_ids"]
        assert pair.type_ids == expected.get("token_type_ids", pair.type_ids)


@pytest.mark.parametrize("file", ["added_tokens.json", "tokenizer_config.json"])
def test_added_tokens_are_read(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer

    monkeypatch.setenv("LONGREAD_CACHE", str(tmp_path / "cache"))
    words = [*SPECIAL["bert"], "the", "low"]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
    told: dict[str, Any] = {"newtok": len(words), "<two>": len(words) + 1}
    if file == "tokenizer_config.json":
        kinds = {"lstrip": False, "rstrip": False, "normalized": True, "single_word": False}
        decoder = {str(told["newtok"]): {"content": "newtok", "special": False} | kinds,
                   str(told["<two>"]): {"content": "<two>", "special": True} | kinds}  # fmt: skip
        told = {"tokenizer_class": "BertTokenizer", "added_tokens_decoder": decoder}
    (tmp_path / file).write_text(json.dumps(told))
    theirs = transformers.BertTokenizer.from_pretrained(tmp_path)
    found = tokenizer_file(tmp_path)
    assert found is not None
    for text in ("the newtok low", "the <two>low NEWTOK", "new tok"):
        assert Tokenizer.from_file(str(found)).encode(text).ids == theirs(text)["input_ids"]


def test_vocab_json_and_merges_become_a_tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    monkeypatch.setenv("LONGREAD_CACHE", str(tmp_path / "cache"))
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        TEXTS * 5, trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet)
    )
    made.model.save(str(tmp_path))
    theirs = transformers.RobertaTokenizerFast.from_pretrained(tmp_path)
    found = tokenizer_file(tmp_path)
    assert found is not None
    own = Tokenizer.from_file(str(found))
    for text in TEXTS:
        assert own.encode(text).ids == theirs(text)["input_ids"]
        assert own.encode(text, "lower").ids == theirs(text, "lower")["input_ids"]


def test_a_broken_vocabulary_is_named(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("the\nlow\n")
    with pytest.raises(UserError, match=re.escape(f"{tmp_path / 'vocab.txt'}: has no [CLS]")):
        tokenizer_file(tmp_path)
    (tmp_path / "vocab.txt").unlink()
    (tmp_path / "vocab.json").write_text("{")
    (tmp_path / "merges.txt").write_text("")
    with pytest.raises(UserError, match=r"add a tokenizer\.json"):
        tokenizer_file(tmp_path)
