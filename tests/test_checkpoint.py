"""Checkpoints: names, what may be missing or left over, both layouts, and the files around the weights."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from longread.checkpoint import from_pretrained, save_pretrained
from longread.encoder import Encoder, build
from longread.errors import UserError
from longread.families import FAMILIES
from longread.vocabulary import tokenizer_file

SHAPE: dict[str, Any] = {
    "vocab_size": 40, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "max_length": 90,
    "layer_norm_eps": 1e-6, "dropout": 0.2, "num_labels": 3, "label_names": ("bad", "so so", "good"),
}  # fmt: skip
POSTNORM: dict[str, Any] = SHAPE | {"norm_position": "post", "pooling": "first", "head_activation": "tanh"}
# What transformers has a classifier for.
THEIRS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("bert", {"type_vocab_size": 2}),
    "bert without token types": ("bert", {"type_vocab_size": 0, "hidden_act": "gelu_tanh"}),
    "roberta": ("roberta", {"position_offset": 2, "type_vocab_size": 1}),
    "longformer": (
        "longformer",
        {"attention": "longformer", "attention_window": (4, 8), "position_offset": 2, "type_vocab_size": 1},
    ),
    "big_bird": (
        "big_bird",
        {
            "attention": "bigbird", "block_size": 4, "num_random_blocks": 1, "random_block_plan": "huggingface",
            "dropout_before_norm": True, "head_activation": "gelu", "type_vocab_size": 2,
            "embedding_scale": 12**0.5,
        },
    ),
    "big_bird, dense": (
        "big_bird",
        {"dropout_before_norm": True, "head_activation": "relu", "hidden_act": "relu", "type_vocab_size": 2},
    ),
}  # fmt: skip
# What it has none for.
OURS: dict[str, dict[str, Any]] = {
    "pre-norm": SHAPE,
    "mean": POSTNORM | {"pooling": "mean"},
    "linear head": POSTNORM | {"head_activation": None},
    "wide heads": POSTNORM | {"head_dim": 10},
    "performer": POSTNORM | {"attention": "performer", "num_features": 9, "redraw_steps": 5},
    "linformer": POSTNORM | {"attention": "linformer", "projection_size": 7, "embedding_dropout": 0.3},
    "windows": SHAPE | {"attention": "longformer", "attention_window": (4, 6)},
    "tanh BigBird": POSTNORM | {"attention": "bigbird", "block_size": 2, "dropout_before_norm": True},
}


def random_model(settings: dict[str, Any], seed: int = 0) -> Encoder:
    model = build(**(settings | {"seed": seed}))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.4 + (0.5 if tensor.dim() == 1 else 0))
    return model.eval()


def batch(length: int = 61) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(4, 40, (2, length), generator=torch.Generator().manual_seed(3))
    return ids, torch.ones_like(ids, dtype=torch.bool)


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """A directory with a BERT classifier."""
    save_pretrained(random_model(POSTNORM | {"type_vocab_size": 2}), tmp_path / "bert", layout="huggingface")
    return tmp_path / "bert"


def rewrite(directory: Path, change: Any) -> None:
    """The weights again, each entry changed: (name, tensor) -> (name, tensor) or None."""
    entries = [change(name, tensor.clone()) for name, tensor in load_file(directory / "model.safetensors").items()]
    save_file(dict(entry for entry in entries if entry), directory / "model.safetensors")


def edit(directory: Path, **keys: Any) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


@pytest.mark.parametrize("key", THEIRS)
def test_transformers_reads_what_is_saved(key: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    family, settings = THEIRS[key]
    model = random_model(POSTNORM | settings)
    save_pretrained(model, tmp_path / "new" / "model")
    config = json.loads((tmp_path / "new" / "model" / "config.json").read_text())
    assert config["model_type"] == family
    peer, report = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "new" / "model", output_loading_info=True
    )
    assert type(peer).__name__ == FAMILIES[family].architecture
    assert not report["unexpected_keys"]
    assert all("pooler" in name for name in report["missing_keys"])
    ids, mask = batch()
    with torch.no_grad():
        expected = peer.eval()(ids, attention_mask=mask.long()).logits
        assert (model(ids, mask) - expected).abs().max() <= 5e-6 * expected.abs().max()
    assert peer.config.id2label == {0: "bad", 1: "so so", 2: "good"}


@pytest.mark.parametrize("layout", ["auto", "longread"])
@pytest.mark.parametrize("key", [*THEIRS, *OURS])
def test_a_saved_model_is_read_back(key: str, layout: str, tmp_path: Path) -> None:
    model = random_model(OURS[key] if key in OURS else POSTNORM | THEIRS[key][1], seed=5)
    save_pretrained(model, tmp_path, layout=layout)
    again = from_pretrained(tmp_path)
    ids, mask = batch()
    assert torch.equal(model(ids, mask), again(ids, mask))
    if layout == "longread" or key != "bert without token types":
        assert again.config == replace(model.config, intermediate_size=again.config.intermediate_size)
        assert {k: v.tolist() for k, v in again.state_dict().items()} == {
            k: v.tolist() for k, v in model.state_dict().items()
        }
    assert not again.training
    assert not again.loading.initialised
    assert not again.loading.ignored


@pytest.mark.parametrize("key", OURS)
def test_what_transformers_cannot_express_is_said(key: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no place in Hugging Face's format: .*longread"):
        save_pretrained(random_model(OURS[key]), tmp_path, layout="huggingface")
    save_pretrained(random_model(OURS[key]), tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "longread"


def test_a_seeded_plan_keeps_its_seed(tmp_path: Path) -> None:
    settings = POSTNORM | THEIRS["big_bird"][1] | {"random_block_plan": "seeded", "num_random_blocks": 2}
    model = random_model(settings, seed=11)
    save_pretrained(model, tmp_path, layout="huggingface")
    ids, mask = batch(85)
    assert torch.equal(from_pretrained(tmp_path)(ids, mask), model(ids, mask))
    other = from_pretrained(tmp_path, random_block_plan="huggingface")
    assert not torch.allclose(other(ids, mask), model(ids, mask))
    edit(tmp_path, longread=None)
    assert from_pretrained(tmp_path).config.options.random_block_plan == "seeded"


def test_pretraining_checkpoints_load(bert: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Names without prefix, gamma and beta, heads of pretraining; the classifier is initialised from the seed."""
    expected = from_pretrained(bert)

    def old(name: str, tensor: torch.Tensor) -> tuple[str, torch.Tensor] | None:
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        return None if name.startswith("classifier") else (name.removeprefix("bert."), tensor)

    rewrite(bert, old)
    tensors = load_file(bert / "model.safetensors")
    extra = {"cls.predictions.bias": torch.zeros(40), "embeddings.position_ids": torch.arange(90)[None]}
    save_file(tensors | extra, bert / "model.safetensors")
    with caplog.at_level(logging.INFO, logger="longread"):
        model = from_pretrained(bert, num_labels=4, seed=1)
    assert set(model.loading.ignored) == set(extra)
    assert set(model.loading.renamed) == set(tensors)
    assert model.loading.initialised == ("head.classifier.weight", "head.classifier.bias")
    assert model.loading.head_is_untrained
    assert len(caplog.records) == 1
    assert "initialised head.classifier.weight" in caplog.text
    for name, tensor in expected.state_dict().items():
        if "classifier" not in name:
            assert torch.equal(model.state_dict()[name], tensor)
    weight = model.head.classifier.weight
    assert weight.shape == (4, 12)
    assert 0 < weight.std() < 0.04
    assert torch.equal(from_pretrained(bert, num_labels=4, seed=1).head.classifier.weight, weight)
    assert not torch.equal(from_pretrained(bert, num_labels=4, seed=2).head.classifier.weight, weight)


@pytest.mark.parametrize("family", ["roberta", "longformer", "big_bird"])
def test_an_unused_pooler_is_ignored(family: str, tmp_path: Path) -> None:
    save_pretrained(random_model(POSTNORM | THEIRS[family][1]), tmp_path, layout="huggingface")
    tensors = load_file(tmp_path / "model.safetensors")
    pooler = {f"{FAMILIES[family].prefix}.pooler.dense.weight": torch.zeros(12, 12), "lm_head.bias": torch.zeros(9)}
    save_file({k: v for k, v in tensors.items() if "classifier" not in k} | pooler, tmp_path / "model.safetensors")
    loading = from_pretrained(tmp_path).loading
    assert set(loading.ignored) == set(pooler)
    assert len(loading.initialised) == 4


def test_other_labels_start_a_new_classifier(bert: Path) -> None:
    assert from_pretrained(bert).config.label_names == ("bad", "so so", "good")
    model = from_pretrained(bert, num_labels=2)
    assert model.loading.ignored == ("classifier.bias", "classifier.weight")
    assert model.config.label_names is None
    assert torch.equal(model.head.dense.weight, from_pretrained(bert).head.dense.weight)
    assert from_pretrained(bert, num_labels=2, label_names=("no", "yes")).config.label_names == ("no", "yes")


def test_overrides(bert: Path) -> None:
    model = from_pretrained(bert, pooling="mean", head_activation=None, dropout=0.4)
    assert (model.config.pooling, model.config.dropout, model.head.dense) == ("mean", 0.4, None)
    assert set(model.loading.ignored) == {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}
    with pytest.raises(UserError, match="dense has no setting block_sizes"):
        from_pretrained(bert, block_sizes=3)
    with pytest.raises(UserError, match=r"longread\.convert"):
        from_pretrained(bert, attention="performer")
    with pytest.raises(UserError, match=r"position_embeddings.weight is \[90, 12\], not \[300, 12\]"):
        from_pretrained(bert, max_length=300)


def test_missing_and_left_over_keys_are_listed(bert: Path) -> None:
    def broken(name: str, tensor: torch.Tensor) -> tuple[str, torch.Tensor] | None:
        if name == "bert.encoder.layer.1.output.dense.bias":
            return None
        return name.replace("layer.0.attention.self.query.weight", "layer.0.attention.self.wrong"), tensor

    rewrite(bert, broken)
    with pytest.raises(UserError) as caught:
        from_pretrained(bert)
    message = str(caught.value)
    assert "\n" not in message
    assert "missing bert.encoder.layer.0.attention.self.query.weight, bert.encoder.layer.1.output.dense.bias" in message
    assert "left over bert.encoder.layer.0.attention.self.wrong" in message


def test_shards_and_pickles(bert: Path) -> None:
    expected = from_pretrained(bert).state_dict()
    tensors = load_file(bert / "model.safetensors")
    (bert / "model.safetensors").unlink()
    names = sorted(tensors)
    torch.save(tensors, bert / "pytorch_model.bin")
    assert all(torch.equal(expected[k], v) for k, v in from_pretrained(bert).state_dict().items())
    (bert / "pytorch_model.bin").unlink()
    parts = {"model-00001-of-00002.safetensors": names[:9], "model-00002-of-00002.safetensors": names[9:]}
    for file, own in parts.items():
        save_file({name: tensors[name] for name in own}, bert / file)
    weight_map = {name: file for file, own in parts.items() for name in own}
    (bert / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert all(torch.equal(expected[k], v) for k, v in from_pretrained(bert).state_dict().items())
    (bert / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UserError, match=r"names model-00002-of-00002\.safetensors, which is not there"):
        from_pretrained(bert)
    (bert / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../a.safetensors"}}))
    with pytest.raises(UserError, match="lie beside its index"):
        from_pretrained(bert)


class Trap:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path.touch, (Path("trapped"),)


def test_nothing_but_tensors_is_unpickled(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bert / "model.safetensors").unlink()
    torch.save({"bert.embeddings.LayerNorm.weight": Trap()}, bert / "pytorch_model.bin")
    monkeypatch.chdir(bert)
    with pytest.raises(UserError, match=r"pytorch_model\.bin: cannot be read as weights"):
        from_pretrained(bert)
    assert not (bert / "trapped").exists()


BROKEN: dict[str, tuple[Any, str]] = {
    "no config": (lambda d: (d / "config.json").unlink(), "has no config.json"),
    "broken config": (lambda d: (d / "config.json").write_text("{"), "cannot be read as JSON"),
    "no weights": (lambda d: (d / "model.safetensors").unlink(), "has no weights; one of model.safetensors"),
    "cut weights": (
        lambda d: (d / "model.safetensors").write_bytes((d / "model.safetensors").read_bytes()[:999]),
        "cannot be read as weights",
    ),
    "family": (lambda d: edit(d, model_type="gpt2"), "model_type is 'gpt2'; known are bert, roberta"),
    "no family": (lambda d: edit(d, model_type=None), "model_type is None"),
    "activation": (lambda d: edit(d, hidden_act="mish"), "hidden_act is 'mish'; known are gelu"),
    "positions": (lambda d: edit(d, position_embedding_type="relative_key"), "only absolute is read"),
    "decoder": (lambda d: edit(d, is_decoder=True), "only encoders"),
    "heads": (lambda d: edit(d, num_attention_heads=5), "no multiple of num_attention_heads 5"),
    "text for a number": (lambda d: edit(d, hidden_size="large"), "hidden_size is 'large'; it must be a number"),
    "labels": (lambda d: edit(d, id2label={"a": "b"}), "id2label"),
}


@pytest.mark.parametrize("key", BROKEN)
def test_wrong_directories_are_named(key: str, bert: Path) -> None:
    change, message = BROKEN[key]
    change(bert)
    with pytest.raises(UserError, match=message) as caught:
        from_pretrained(bert)
    assert "\n" not in str(caught.value)
    assert str(bert) in str(caught.value)


def test_a_name_that_is_nowhere(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such directory"):
        from_pretrained(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no such directory, and the Hugging Face Hub is switched off"):
        from_pretrained("no-such-owner/no-such-model")


def test_saving_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(POSTNORM)
    monkeypatch.setattr("longread.checkpoint.write_atomically", _fail_at("config.json"))
    with pytest.raises(OSError, match="disk full"):
        save_pretrained(model, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def _fail_at(name: str) -> Any:
    from longread.runs import write_atomically

    def write(path: Path, data: bytes) -> None:
        if path.name == name:
            raise OSError("disk full")
        write_atomically(path, data)

    return write


def test_the_tokenizer_goes_along(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert from_pretrained(bert).tokenizer_file is None
    (bert / "tokenizer.json").write_text("{}")
    model = from_pretrained(bert)
    assert model.tokenizer_file == bert / "tokenizer.json"
    save_pretrained(model, tmp_path / "copy")
    assert from_pretrained(tmp_path / "copy").tokenizer_file == tmp_path / "copy" / "tokenizer.json"
    save_pretrained(model, bert)  # over itself
    assert (bert / "tokenizer.json").read_text() == "{}"


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
    with pytest.raises(UserError, match="add a tokenizer.json"):
        tokenizer_file(tmp_path)
