"""A checkpoint of ours answers in transformers' pipeline as here, and one of transformers' here as there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from checkpoints import POSTNORM, THEIRS, random_model, save_tokenizer
from longread.data.tokenizer import load_tokenizer, train_tokenizer
from longread.errors import UserError
from longread.inference.predictor import load
from longread.models.checkpoint import from_pretrained, save_pretrained
from longread.models.convert import convert
from peers import random_peer

transformers = pytest.importorskip("transformers")

FINE = "The film was fine, Fine and FINE: a warm Café on the hill"
# Long ones first: after a short text, transformers' BigBird stays dense.
TEXTS = [(f"{FINE}. " * 40, None), (f"{FINE}! " * 30, "a Film " * 70), (FINE, FINE), (FINE, None), ("fine", None)]
SIZE = {"vocab_size": 340, "max_length": 92, "label_names": ("bad", "so so", "good"), "num_labels": 3}
SMALL_PEER: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {"type_vocab_size": 1},
    "xlm-roberta": {"type_vocab_size": 1},
    "longformer": {"attention_window": 8, "type_vocab_size": 1},
    "big_bird": {"block_size": 4, "num_random_blocks": 1},
    "distilbert": {},
    "electra": {},
    "mpnet": {},
}


def peer(family: str, directory: Path, **told: Any) -> Path:
    """A random model of transformers with a tokenizer as it writes both."""
    random_peer(family, vocab_size=340, max_position_embeddings=92, **SMALL_PEER[family]).save_pretrained(directory)
    save_tokenizer(family, directory, **({"model_max_length": 90} | told))
    return directory


def assert_same_answers(directory: Path) -> None:
    """transformers reads the directory in a pipeline, longread with `load`."""
    pipe = transformers.pipeline("text-classification", model=str(directory))
    own = load(directory, "cpu")
    for text, pair in TEXTS:
        given = text if pair is None else {"text": text, "text_pair": pair}
        theirs = {found["label"]: found["score"] for found in pipe(given, truncation=True, top_k=None)}
        mine = own.predict([text], None if pair is None else [pair])[0].probabilities
        assert mine == pytest.approx(theirs, abs=1e-5), (text[:30], pair)


SCRATCH = {"bert": 0, "roberta with padding first": 1, "longformer": 0, "big_bird": 0}


@pytest.mark.parametrize("key", SCRATCH)
def test_a_model_from_scratch_in_a_pipeline(key: str, tmp_path: Path) -> None:
    model = random_model(POSTNORM | THEIRS[key][1] | SIZE | {"position_offset": SCRATCH[key]})
    tokenizer = train_tokenizer([FINE, "a warm hill"] * 3, 300, lowercase=key == "bert")
    save_pretrained(model, tmp_path, layout="huggingface", tokenizer=tokenizer)
    assert_same_answers(tmp_path)


def test_positions_that_count_from_another_padding_token_are_not_written_as_theirs(tmp_path: Path) -> None:
    """transformers' RoBERTa would take the token with the id of its padding, here <s>, for none."""
    model = random_model(POSTNORM | THEIRS["roberta"][1] | SIZE)
    with pytest.raises(UserError, match="counts positions from behind the padding token's id, here 0, and the model"):
        save_pretrained(model, tmp_path, layout="huggingface", tokenizer=train_tokenizer([FINE], 300, False))


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("family", SMALL_PEER)
def test_what_transformers_wrote_answers_alike(family: str, lower: bool, tmp_path: Path) -> None:
    """Random blocks beyond the threshold, token types of pairs, case, the longest input, the end that is cut."""
    told = {"truncation_side": "left", "model_max_length": 61} if lower else {}
    theirs = peer(family, tmp_path / "theirs", do_lower_case=lower, **told)
    assert_same_answers(theirs)
    save_pretrained(from_pretrained(theirs), tmp_path / "again")
    assert_same_answers(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text())["model_type"] == family
    told = json.loads((tmp_path / "again" / "tokenizer_config.json").read_text())
    assert told["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert ("token_type_ids" in told["model_input_names"]) == (family in ("bert", "electra"))


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("family", ["bert", "electra", "distilbert", "mpnet"])
def test_the_word_of_tokenizer_config_on_case_counts(family: str, lower: bool, tmp_path: Path) -> None:
    """Above that of tokenizer.json."""
    theirs = peer(family, tmp_path, do_lower_case=not lower)
    told = json.loads((theirs / "tokenizer_config.json").read_text())
    (theirs / "tokenizer_config.json").write_text(json.dumps(told | {"do_lower_case": lower}))
    assert_same_answers(theirs)


def test_a_converted_bert_keeps_its_tokenizer(tmp_path: Path) -> None:
    source = peer("bert", tmp_path / "bert", do_lower_case=False, model_max_length=64)
    model = convert(from_pretrained(source), "longformer", 300, attention_window=200)
    save_pretrained(model, tmp_path / "long")
    assert json.loads((tmp_path / "long" / "config.json").read_text())["model_type"] == "longformer"
    assert json.loads((tmp_path / "long" / "tokenizer_config.json").read_text())["model_max_length"] == 300
    assert_same_answers(tmp_path / "long")
    short = load(source, "cpu"), load(tmp_path / "long", "cpu")
    assert short[0].predict([FINE])[0].probabilities == pytest.approx(short[1].predict([FINE])[0].probabilities)


def test_the_plan_can_be_chosen_and_is_kept(tmp_path: Path) -> None:
    theirs = peer("big_bird", tmp_path / "theirs")
    assert from_pretrained(theirs).config.options.random_block_plan == "huggingface"
    model = from_pretrained(theirs, random_block_plan="seeded", seed=3)
    save_pretrained(model, tmp_path / "own")
    assert from_pretrained(tmp_path / "own").config == model.config


def test_a_model_that_only_longread_has_brings_its_tokenizer(tmp_path: Path) -> None:
    model = random_model(POSTNORM | SIZE | {"pooling": "mean", "type_vocab_size": 2})
    save_pretrained(model, tmp_path, tokenizer=train_tokenizer([FINE] * 3, 300, lowercase=False))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)(FINE * 9, "the hill", truncation=True)
    own = load_tokenizer(tmp_path).encode([FINE * 9], ["the hill"], 92)
    assert (theirs["input_ids"], theirs["token_type_ids"]) == (own.tokens.tolist(), own.types.tolist())


def test_a_checkpoint_of_before_told_pairs_apart(tmp_path: Path) -> None:
    """Without tokenizer_config.json, an own BigBird was trained with token types; transformers' is not."""
    theirs = peer("big_bird", tmp_path / "theirs")
    save_pretrained(from_pretrained(theirs), tmp_path / "own")
    for directory in (theirs, tmp_path / "own"):
        (directory / "tokenizer_config.json").unlink()
        (directory / "special_tokens_map.json").unlink(missing_ok=True)
        (directory / "longread_checksums.json").unlink(missing_ok=True)
    assert not load_tokenizer(theirs).config.token_types
    assert load_tokenizer(tmp_path / "own").config.token_types
