"""Checkpoints: names, what may be missing or left over, both layouts."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from checkpoints import MODERN, OURS, POSTNORM, SHAPE, THEIRS, batch, edit, random_model, rewrite, save_bert
from longread.errors import UserError
from longread.models.checkpoint import from_pretrained, save_pretrained
from longread.models.families import FAMILIES
from longread.models.weights import CHECKSUMS


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return save_bert(tmp_path / "bert")


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
    if layout == "longread" or not key.endswith("without token types"):
        assert again.config == replace(model.config, intermediate_size=again.config.intermediate_size)
        assert {k: v.tolist() for k, v in again.state_dict().items()} == {
            k: v.tolist() for k, v in model.state_dict().items()
        }
    assert not again.training
    assert not again.loading.initialised
    assert not again.loading.ignored


@pytest.mark.parametrize("heads", [1, 4, 13])
@pytest.mark.parametrize("attention", ["dense", "longformer", "local"])
def test_heads_that_no_family_could_have_are_saved(attention: str, heads: int, tmp_path: Path) -> None:
    """Rotary positions of an odd head_dim, and heads that are no part of hidden_size, are no other family's matter."""
    width = {"head_dim": 7} if 65 % heads else {}
    settings: dict[str, Any] = {"attention": attention, "hidden_size": 65, "num_attention_heads": heads} | width
    model = random_model(POSTNORM | {"type_vocab_size": 2} | settings)
    save_pretrained(model, tmp_path)
    told = json.loads((tmp_path / "config.json").read_text())["model_type"]
    assert told == ("bert" if attention == "dense" and not width else "longread")
    assert torch.equal(from_pretrained(tmp_path)(*batch()), model(*batch()))
    if width:
        with pytest.raises(UserError, match=r"theirs have no 4 heads"):
            save_pretrained(model, tmp_path, layout="huggingface")


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
    assert from_pretrained(tmp_path).config.options.random_block_plan == "huggingface"


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
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="longread"):
        model = from_pretrained(bert, num_labels=4, seed=1)
    assert set(model.loading.ignored) == set(extra)
    old_names = {name for name in tensors if name.endswith(("gamma", "beta"))}  # a prefix that is not there is no name
    assert old_names and set(model.loading.renamed) == old_names
    assert f"; {len(old_names)} old names" in caplog.text
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
    (tmp_path / CHECKSUMS).unlink()
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


def test_older_and_newer_configurations_of_modernbert_are_one_model(tmp_path: Path) -> None:
    """As the published checkpoints have it, a period and two bases; today's transformers names every layer."""
    settings = POSTNORM | THEIRS["modernbert"][1] | {"num_hidden_layers": 5, "attention": "dense local local"}
    model = random_model(settings | {"rotary_base": (70.0, 20.0, 20.0)})
    save_pretrained(model, tmp_path, layout="huggingface")
    expected, newer = from_pretrained(tmp_path), json.loads((tmp_path / "config.json").read_text())
    assert newer["layer_types"].count("full_attention") == 2
    older = {k: v for k, v in newer.items() if k not in ("layer_types", "rope_parameters")}
    older |= {"global_attn_every_n_layers": 3, "global_rope_theta": 70.0, "local_rope_theta": 20.0}
    (tmp_path / "config.json").write_text(json.dumps(older))
    (tmp_path / CHECKSUMS).unlink()
    again = from_pretrained(tmp_path)
    assert again.config == expected.config
    assert torch.equal(again(*batch()), model(*batch()))
    edit(tmp_path, global_attn_every_n_layers=2)
    assert from_pretrained(tmp_path).config.attention == "dense local"
    edit(tmp_path, local_rope_theta=None)
    assert from_pretrained(tmp_path).config.rotary_base == 70.0


def test_a_kind_of_learned_positions_says_nothing_where_positions_are_rotary(tmp_path: Path) -> None:
    """As in the files of mmBERT, a ModernBERT; BERT's relative ones are refused in test_checkpoint_files.py."""
    save_pretrained(random_model(THEIRS["modernbert"][1] | SHAPE | MODERN), tmp_path, layout="huggingface")
    expected = from_pretrained(tmp_path).config
    edit(tmp_path, position_embedding_type="sans_pos")
    assert from_pretrained(tmp_path).config == expected


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"layer_types": None, "global_attn_every_n_layers": 0}, "every_n_layers is 0; it must be a whole number, 1"),
        ({"rope_parameters": 7}, "rope_parameters is 7; it must be a JSON object"),
        ({"rope_parameters": {"full_attention": [7]}}, r"full_attention is \[7\]; it must be a JSON object"),
        ({"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_type is 'linear'; only"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "rope_type is 'yarn'; only default"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 9.0}}, "rope_parameters has 'rope_type'; it must"),
        ({"rope_parameters": None, "global_rope_theta": 0}, "global_rope_theta is 0; it must be a number above 0"),
        ({"rope_parameters": {"full_attention": {"rope_theta": "9"}}}, "rope_theta of full_attention is '9'; it must"),
        ({"local_attention": 1}, "local_attention is 1; it must be a whole number, 2 or more"),
        ({"layer_types": [["full_attention"]] * 2}, r"layer_types is \[\['full_attention'\], "),
        ({"hidden_activation": ["gelu"]}, r"hidden_activation is \['gelu'\]; known are"),
        ({"classifier_pooling": ["cls"]}, r"classifier_pooling is \['cls'\]; it must be one of cls, mean"),
        ({"architectures": 7, "classifier_pooling": "max"}, "classifier_pooling is 'max'; it must be one of cls, mean"),
    ],
    ids=str,
)
def test_what_a_modernbert_cannot_have_is_named(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    save_pretrained(random_model(THEIRS["modernbert"][1] | SHAPE | MODERN), tmp_path, layout="huggingface")
    edit(tmp_path, **changes)
    with pytest.raises(UserError, match=told):
        from_pretrained(tmp_path)


def test_a_missing_tensor_is_named_as_in_the_file(tmp_path: Path) -> None:
    """ModernBERT's file has query, key and value in one."""
    save_pretrained(random_model(THEIRS["modernbert"][1] | SHAPE | MODERN), tmp_path, layout="huggingface")
    rewrite(tmp_path, lambda name, tensor: None if "layers.0.attn.Wqkv" in name else (name, tensor))
    with pytest.raises(UserError, match=r"missing model\.layers\.0\.attn\.Wqkv\.weight$"):
        from_pretrained(tmp_path)


def test_architectures_that_are_no_list_say_nothing(bert: Path) -> None:
    edit(bert, architectures=7)
    assert not from_pretrained(bert).loading.initialised


def test_a_head_that_begins_anew_keeps_its_scale(tmp_path: Path) -> None:
    """Of an encoder alone; the norm of a new head begins with ones, not with small random numbers."""
    save_pretrained(random_model(POSTNORM | THEIRS["modernbert"][1]), tmp_path, layout="huggingface")
    rewrite(tmp_path, lambda name, tensor: (name, tensor) if name.startswith("model.") else None)
    head = from_pretrained(tmp_path).head
    assert torch.equal(head.norm.weight, torch.ones(12))
    assert 0 < head.dense.weight.std() < 0.05
