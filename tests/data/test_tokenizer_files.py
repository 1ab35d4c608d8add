"""Tokenizers of checkpoints that have vocabulary files and no tokenizer.json."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from longread.data.tokenizer_files import tokenizer_file
from longread.errors import UserError

TEXTS = ["The low lowest lower, Lów!", "low\u00e9</s>  newer", ""]


@pytest.mark.parametrize("lower", [True, False])
def test_a_vocab_txt_becomes_a_tokenizer(lower: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer

    monkeypatch.setenv("LONGREAD_CACHE", str(tmp_path / "cache"))
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "The", "low", "##est", "##er", "new", ",", "!", "L"]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lower}))
    theirs = transformers.BertTokenizerFast.from_pretrained(tmp_path, do_lower_case=lower)
    found = tokenizer_file(tmp_path)
    assert found is not None
    assert found == tokenizer_file(tmp_path)
    own = Tokenizer.from_file(str(found))
    assert not (tmp_path / "tokenizer.json").exists()
    for text in TEXTS:
        assert own.encode(text).ids == theirs(text)["input_ids"]
        pair = own.encode(text, "new low")
        expected = theirs(text, "new low")
        assert (pair.ids, pair.type_ids) == (expected["input_ids"], expected["token_type_ids"])


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
