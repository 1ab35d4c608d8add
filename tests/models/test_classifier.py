"""The encoder with each mechanism: what padding, order, precision and seed may not change; its errors."""

from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import hypothesis
import pytest
import torch
from hypothesis import settings as budget
from hypothesis import strategies as st
from torch import Tensor, nn

from longread.attention import ATTENTIONS
from longread.models.classifier import Classifier, build
from longread.models.config import ACTIVATIONS, ClassifierConfig
from longread.ops.dropout import Noise
from longread.ops.packed import PackedBatch
from mechanisms import label, normal, relative_error, sparse_settings

VOCABULARY = 50
LENGTHS = (1, 0, 17, 40, 17, 3, 64)

every_mechanism = pytest.mark.parametrize(("name", "options"), sparse_settings(), ids=label)


def model(name: str, options: dict[str, Any] | None = None, **config: Any) -> Classifier:
    """A small encoder with weights so large that its attention and its logits are far from even."""
    small = {
        "vocab_size": VOCABULARY,
        "hidden_size": 12,
        "num_attention_heads": 2,
        "head_dim": 5,
        "max_length": 128,
        "num_labels": 3,
        "initializer_range": 0.3,
        "dropout": 0.0,
    }
    return build(name, **(small | (options or {}) | config)).eval()


def tokens(*shape: int, seed: int = 0, high: int = VOCABULARY) -> Tensor:
    return torch.randint(0, high, shape, generator=torch.Generator().manual_seed(seed))


def padded(texts: list[Tensor], width: int, where: str) -> tuple[Tensor, Tensor]:
    """Texts in slots of `width`: to the left, the right, or anywhere; other slots hold tokens that do not count."""
    generator = torch.Generator().manual_seed(1)
    ids, mask = tokens(len(texts), width, seed=2), torch.zeros(len(texts), width, dtype=torch.bool)
    for row, text in enumerate(texts):
        n = len(text)
        slots = {
            "right": torch.arange(n),
            "left": torch.arange(width - n, width),
            "holes": torch.randperm(width, generator=generator)[:n].sort().values,
        }[where]
        ids[row, slots] = text
        mask[row, slots] = True
    return ids, mask


def gradients(module: nn.Module) -> Tensor:
    """Those of all parameters as one vector; a parameter without one counts as zero."""
    return torch.cat(
        [(torch.zeros_like(p) if p.grad is None else p.grad).flatten().float() for p in module.parameters()]
    )


# ---- what a sequence's company may not change ---------------------------------------------------------


@every_mechanism
@pytest.mark.parametrize("config", [{}, {"pooling": "first", "norm_position": "post"}], ids=["pre", "post"])
def test_logits_of_a_row_are_the_same_in_any_company(
    name: str, options: dict[str, Any], config: dict[str, Any]
) -> None:
    encoder = model(name, options, **config)
    texts = [tokens(n, seed=n) for n in LENGTHS]
    alone = torch.cat([encoder(text[None]) for text in texts])
    assert alone[LENGTHS.index(0)].tolist() == [0, 0, 0]
    assert (alone[2] - alone[3]).abs().max() > 0.01, "the model tells no two texts apart"
    for where in ("right", "left", "holes"):
        ids, mask = padded(texts, 80, where)
        assert (encoder(ids, mask) - alone).abs().max() < 1e-5, where
        order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(3))
        assert (encoder(ids[order], mask[order]) - alone[order]).abs().max() < 1e-5, where


@every_mechanism
@budget(max_examples=8, derandomize=True, deadline=None, database=None)
@hypothesis.given(lengths=st.lists(st.integers(0, 90), min_size=1, max_size=6), more=st.integers(0, 20))
def test_packed_is_padded_is_alone_over_any_lengths(
    name: str, options: dict[str, Any], lengths: list[int], more: int
) -> None:
    encoder = model(name, options)
    texts = [tokens(n, seed=n + row) for row, n in enumerate(lengths)]
    alone = torch.cat([encoder(text[None]) for text in texts])
    packed = encoder.classify(torch.cat(texts), PackedBatch(lengths))
    assert (packed - alone).abs().max() < 1e-5
    for where in ("right", "holes"):
        assert (encoder(*padded(texts, max(1, *lengths) + more, where)) - alone).abs().max() < 1e-5, where


@every_mechanism
def test_the_gradient_of_a_batch_is_the_sum_of_its_rows(name: str, options: dict[str, Any]) -> None:
    encoder = model(name, options).double()
    texts = [tokens(n, seed=n) for n in LENGTHS]
    for text in texts:
        encoder(text[None])[:, 0].sum().backward()
    expected = gradients(encoder)
    encoder.zero_grad()
    ids, mask = padded(texts, 80, "holes")
    encoder(ids, mask)[:, 0].sum().backward()
    assert relative_error(gradients(encoder), expected) < 1e-6  # `gradients` are float32


@every_mechanism
def test_a_row_without_tokens_has_no_gradient(name: str, options: dict[str, Any]) -> None:
    encoder = model(name, options)
    ids, mask = padded([tokens(n) for n in (0, 9, 0)], 12, "right")
    for rows in (slice(0, 3), slice(0, 1)):  # beside another row, and alone
        encoder.zero_grad()
        logits = encoder(ids[rows], mask[rows])
        assert logits.isfinite().all()
        nn.functional.cross_entropy(logits[::2], torch.ones(len(logits[::2]), dtype=torch.long)).backward()
        assert (gradients(encoder) == 0).all()


@pytest.mark.parametrize(("name", "options"), [*sparse_settings(), ("local dense", {"local_window": 6})], ids=label)
@pytest.mark.parametrize("norm_position", ["pre", "post"])
def test_the_first_token_alone_is_what_all_tokens_give(name: str, options: dict[str, Any], norm_position: str) -> None:
    """The last block may leave out what pooling does not read: same logits, same gradients, same dropout."""
    position = {"relative_buckets": 8} if norm_position == "post" else {"position_kind": "rotary", "head_dim": 6}
    position = position if name == "dense" else {}
    encoder = model(
        name, options, pooling="first", norm_position=norm_position, num_hidden_layers=2, dropout=0.3,
        gated=norm_position == "pre", **position,
    ).double()  # fmt: skip
    lengths = [n for n in LENGTHS if n]
    packed, text = PackedBatch(lengths, first_text_lengths=[0] * len(lengths)), tokens(sum(lengths))
    for training in (False, True):
        encoder.train(training)
        packed.noise = Noise(seed=3, step=1, first_token=7, first_sequence=2)
        found = []
        for logits in (
            encoder.classify(text, packed),
            encoder.head(encoder.pool(encoder.encode(text, packed), packed), packed.noise),
        ):
            encoder.zero_grad(set_to_none=True)
            (logits * tokens(*logits.shape)).sum().backward()
            found.append((logits.detach(), gradients(encoder)))
        for ours, whole in zip(*found, strict=True):
            assert relative_error(ours, whole) < (1e-12 if ours.dtype == torch.float64 else 1e-6)


def test_an_empty_batch_has_no_logits() -> None:
    assert model("dense")(tokens(0, 5)).shape == (0, 3)
    assert model("dense")(tokens(4, 0)).tolist() == [[0, 0, 0]] * 4


@pytest.mark.parametrize("offset", [0, 2])
def test_positions_count_real_tokens(offset: int) -> None:
    encoder = model("dense", position_offset=offset)
    ids, mask = padded([tokens(5), tokens(9)], 40, "holes")
    encoder(ids, mask).sum().backward()
    grad = encoder.embeddings.position.weight.grad
    assert grad is not None
    assert len(grad) == 128 + offset
    assert grad.abs().sum(1).nonzero().flatten().tolist() == list(range(offset, offset + 9))


def test_longformers_global_tokens_can_be_a_pairs_first_text() -> None:
    encoder = model("longformer", {"attention_window": 4, "global_tokens": "first_text"}, type_vocab_size=2)
    plain = model("longformer", {"attention_window": 4}, type_vocab_size=2)
    plain.load_state_dict(encoder.state_dict())
    texts = [tokens(n, seed=n) for n in (30, 12, 25)]
    ids, mask = padded(texts, 40, "right")
    types = torch.zeros_like(ids)
    for row, first in enumerate((9, 7, 1)):
        types[row, first:] = 1
    expected = plain(ids, mask, types, global_mask=(types == 0) & mask)
    assert (encoder(ids, mask, types) - expected).abs().max() < 1e-6
    assert (encoder(ids, mask, types) - plain(ids, mask, types)).abs().max() > 1e-4
    # Packed, the end of the first text is enough: a tokenizer may have no token types for pairs.
    batch = PackedBatch((30, 12, 25), first_text_lengths=(9, 7, 1))
    assert (encoder.classify(torch.cat(texts), batch, types[mask]) - expected).abs().max() < 1e-6
    batch = PackedBatch((30, 12, 25))  # or token types that differ
    assert (encoder.classify(torch.cat(texts), batch, types[mask]) - expected).abs().max() < 1e-6
    alone = PackedBatch((30, 12, 25), first_text_lengths=(0, 0, 0))  # texts without a partner: their first tokens
    assert torch.equal(encoder.classify(torch.cat(texts), alone), plain.classify(torch.cat(texts), alone))


def test_every_token_is_never_made_global_in_silence() -> None:
    encoder = model("longformer", {"attention_window": 4, "global_tokens": "first_text"}, type_vocab_size=2)
    ids, mask = padded([tokens(30), tokens(12)], 30, "right")
    types = torch.zeros_like(ids)
    types[0, 9:] = 1
    for given in (None, torch.zeros_like(ids), types):  # `types`: the second of the rows has none of its own
        with pytest.raises(ValueError, match="pass token_type_ids, 0 there and 1 behind it, or global_mask"):
            encoder(ids, mask, given)
    for given in (None, torch.zeros_like(ids[0])):
        with pytest.raises(ValueError, match="where the first text of a pair ends"):
            encoder.classify(ids[0], PackedBatch((30,)), given)
    plain = model("longformer", {"attention_window": 4}, type_vocab_size=2)
    first = torch.arange(30).expand_as(ids) == 0
    assert (encoder(ids, mask, global_mask=first) - plain(ids, mask)).abs().max() < 1e-6


def test_longformers_global_tokens_are_found_behind_holes() -> None:
    encoder = model("longformer", {"attention_window": 4})
    texts = [tokens(n, seed=n) for n in (30, 12, 25, 9)]
    places: list[list[int]] = [[7, 20], [0], [], [3, 4, 5]]
    alone = []
    for text, chosen in zip(texts, places, strict=True):
        batch = PackedBatch((len(text),), global_positions=(tuple(chosen),))
        alone.append(encoder.classify(text, batch))
    expected = torch.cat(alone)
    ids, mask = padded(texts, 50, "holes")
    flags = torch.zeros_like(mask)
    flags[~mask] = True  # a flag on a slot without a token marks nothing
    for row, chosen in enumerate(places):
        flags[row, mask[row].nonzero().flatten()[chosen]] = True
    assert (encoder(ids, mask, global_mask=flags) - expected).abs().max() < 1e-5
    assert (encoder(ids, mask) - expected)[[0, 2, 3]].abs().amax(1).min() > 1e-4
    assert (encoder(ids, mask) - expected)[1].abs().max() < 1e-5


# ---- what it computes ----------------------------------------------------------------------------


def spelled_out(encoder: Classifier, text: Tensor, types: Tensor) -> Tensor:
    """Logits of one text, as the papers write an encoder, over the mechanism's reference."""
    config, embed = encoder.config, encoder.embeddings
    x = embed.word.weight[text] * config.embedding_scale
    if embed.token_type is not None:
        x = x + embed.token_type.weight[types]
    x = embed.norm(x + embed.position.weight[config.position_offset : config.position_offset + len(text)])
    activation = ACTIVATIONS[config.hidden_act]
    block: Any
    for block in encoder.blocks:
        if config.norm_position == "pre":
            x = x + block.attention.reference(block.attention_norm(x))[0]
            x = x + block.down(activation(block.up(block.output_norm(x))))
        else:
            x = block.attention_norm(x + block.attention.reference(x)[0])
            x = block.output_norm(x + block.down(activation(block.up(x))))
    if config.norm_position == "pre":
        assert encoder.final_norm is not None
        x = encoder.final_norm(x)
    pooled = x[0] if config.pooling == "first" else x.mean(0)
    if encoder.score is not None:
        pooled = torch.cat([encoder.score(x)[:, 0], x.new_zeros(config.max_length - len(x))])
    if config.head_activation is not None:
        assert encoder.head.dense is not None
        pooled = ACTIVATIONS[config.head_activation](encoder.head.dense(pooled))
    logits: Tensor = encoder.head.classifier(pooled)
    return logits


@pytest.mark.parametrize("name", ATTENTIONS)
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"norm_position": "post", "pooling": "first", "head_activation": "tanh", "type_vocab_size": 2},
        {"position_offset": 2, "embedding_scale": 3.0, "hidden_act": "relu", "intermediate_size": 7},
        {"num_hidden_layers": 0, "head_activation": "gelu"},
        {"num_hidden_layers": 3, "norm_position": "post", "hidden_act": "gelu_tanh", "layer_norm_eps": 0.1},
        {"head_dim": None, "hidden_act": "silu", "type_vocab_size": 3},
        {"pooling": "positions"},
    ],
    ids=lambda config: "-".join(config) or "defaults",
)
def test_an_encoder_is_what_its_settings_say(name: str, config: dict[str, Any]) -> None:
    encoder = model(name, **config).double()
    texts = [tokens(n, seed=n) for n in (20, 1, 9)]
    types = [tokens(n, seed=n, high=max(1, encoder.config.type_vocab_size)) for n in (20, 1, 9)]
    expected = torch.stack([spelled_out(encoder, *pair) for pair in zip(texts, types, strict=True)])
    batch = PackedBatch((20, 1, 9))
    found = encoder.classify(torch.cat(texts), batch, torch.cat(types))
    assert (found - expected).abs().max() < 1e-10
    for hidden in encoder.hidden_states(torch.cat(texts), batch):
        assert hidden.shape == (30, 12)
    assert len(encoder.hidden_states(torch.cat(texts), batch)) == encoder.config.num_hidden_layers + 1
    assert encoder.num_parameters == sum(p.numel() for p in encoder.parameters())


def test_dropout_is_where_the_settings_put_it() -> None:
    text, batch = tokens(60), PackedBatch((60,))
    for before_norm in (True, False):
        encoder = model("dense", embedding_dropout=0.5, dropout_before_norm=before_norm).train()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            embedded = encoder.embeddings(text, batch, None)
        assert ((embedded == 0).float().mean() > 0.4) != before_norm  # norm after it leaves no zeros
    encoder = model("dense", dropout=0.5, embedding_dropout=0.0).train()
    assert torch.equal(encoder.embeddings(text, batch, None), encoder.eval().embeddings(text, batch, None))
    encoder.train()
    assert not torch.equal(encoder.classify(text, batch), encoder.classify(text, batch))
    encoder = model("dense", dropout=0.0, attention_dropout=0.5).train()
    assert not torch.equal(encoder.classify(text, batch), encoder.classify(text, batch))
    assert torch.equal(encoder.eval().classify(text, batch), encoder.classify(text, batch))
    with pytest.raises(ValueError, match="Performer has no attention probabilities"):
        model("performer", attention_dropout=0.5)


def test_the_head_drops_before_its_dense_layer_where_roberta_does() -> None:
    pooled = torch.ones(1, 12)
    for first in (False, True):
        head = model("dense", head_activation="relu", dropout_before_head=first, dropout=0.5).head.train()
        assert head.dense is not None
        seen: list[Tensor] = []
        head.dense.register_forward_pre_hook(lambda module, inputs, seen=seen: seen.append(inputs[0]))
        head(pooled)
        assert (seen[0] == pooled).all() != first


@every_mechanism
def test_checkpointing_changes_memory_alone(name: str, options: dict[str, Any]) -> None:
    found = []
    for checkpointing in (False, True):
        encoder = model(name, options, checkpointing=checkpointing, dropout=0.3).train()
        ids, mask = padded([tokens(n, seed=n) for n in LENGTHS], 80, "right")
        with torch.random.fork_rng():
            torch.manual_seed(0)  # the second pass over a block has to drop what the first one did
            logits = encoder(ids, mask)
            logits.square().sum().backward()
        found.append((logits.detach(), gradients(encoder)))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


# ---- seeds and precision -------------------------------------------------------------------------


@every_mechanism
def test_one_seed_one_model(name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def touched(seed: int) -> None:
        raise AssertionError("an accelerator's random state was changed")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", touched)
    before = torch.get_rng_state()
    first, second, other = (model(name, options, seed=seed) for seed in (1, 1, 2))
    ids, mask = padded([tokens(n, seed=n) for n in LENGTHS], 80, "left")
    with torch.no_grad():
        logits = first(ids, mask)
        assert torch.equal(logits, first(ids, mask))
        assert torch.equal(logits, second(ids, mask))
        assert not torch.equal(logits, other(ids, mask))
    assert torch.equal(before, torch.get_rng_state())
    for (name_of, one), two in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(one, two), name_of


@every_mechanism
def test_bfloat16_is_close_to_float32(name: str, options: dict[str, Any]) -> None:
    """A rounding is 2^-9, some dozen follow each other in two layers and partly cancel: 8 * 2^-8 at most.

    Twice that for gradients of bfloat16 parameters: an embedding sums those of its tokens in bfloat16.
    """
    ids, mask = padded([tokens(n, seed=n) for n in (1, 0, 40, 17, 120, 120)], 128, "right")
    size = {"hidden_size": 32, "num_attention_heads": 4, "head_dim": 8, "initializer_range": 0.15}
    exact, autocast, half = (model(name, options, **size) for _ in range(3))
    wanted = exact(ids, mask)
    with torch.autocast("cpu", torch.bfloat16):
        found = autocast(ids, mask)
    found_half = half.bfloat16()(ids, mask)
    assert (found.dtype, found_half.dtype) == (torch.float32, torch.bfloat16)  # autocast leaves the last layer out
    weights = normal(*wanted.shape, dtype=torch.float32)
    for encoder, logits, times in ((exact, wanted, 1), (autocast, found, 1), (half, found_half, 2)):
        assert relative_error(logits, wanted) < 8 * 2**-8
        (logits.float() * weights).sum().backward()
        assert relative_error(gradients(encoder), gradients(exact)) < times * 8 * 2**-8


@every_mechanism
def test_every_length_is_finite(name: str, options: dict[str, Any]) -> None:
    encoder = model(name, options, initializer_range=1.0)
    ids, mask = padded([tokens(n, seed=n) for n in range(101)], 100, "left")
    for dtype in (torch.float32, torch.bfloat16):
        encoder.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            logits = encoder(ids, mask)
        logits.float().square().sum().backward()
        assert logits.isfinite().all()
        assert gradients(encoder).isfinite().all()


# ---- settings and errors -------------------------------------------------------------------------


@every_mechanism
def test_settings_survive_a_dict(name: str, options: dict[str, Any]) -> None:
    config = ClassifierConfig.from_dict({"attention": name, "label_names": ["a", "b"], **options})
    assert config.label_names == ("a", "b")
    assert all(getattr(config.options, field) == value for field, value in options.items())
    assert ClassifierConfig.from_dict(config.to_dict()) == config
    assert config == dataclasses.replace(config)
    assert hash(config) == hash(ClassifierConfig.from_dict(config.to_dict()))


def test_a_pattern_of_mechanisms_repeats_over_the_layers() -> None:
    model = build("dense  local local", num_hidden_layers=5, local_window=6, position_kind="rotary", rotary_base=(9, 5))
    assert [type(block.attention).__name__[:5] for block in model.blocks] == ["Dense", "Local", "Local"] * 1 + [
        "Dense",
        "Local",
    ]
    assert [block.attention.rotary_base for block in model.blocks] == [9, 5, 9, 5, 9]
    assert model.config.attention == "dense local local"
    assert ClassifierConfig.from_dict(model.config.to_dict()) == model.config
    assert ClassifierConfig(attention="local local").attention == "local"
    assert ClassifierConfig(attention="dense local dense local").attention == "dense local"
    with pytest.raises(ValueError, match="dense local has no setting block_size"):
        build("dense local", block_size=3)
    with pytest.raises(ValueError, match="attention is 'windowed'"):
        build("dense windowed")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"attention": "reformer"}, "attention is 'reformer'; it must be one of dense, longformer, bigbird"),
        (
            {"attention": "performer", "block_size": 64},
            "performer has no setting block_size; its own are centred",
        ),
        ({"windw": 3}, "dense has no setting windw; its own are none, the encoder's attention, "),
        (
            {"hidden_size": 64, "num_attention_heads": 5},
            "multiple of num_attention_heads 5; .* or give head_dim",
        ),
        ({"hidden_size": 0}, "hidden_size is 0; it must be 1 or more"),
        ({"num_labels": 0}, "num_labels is 0; it must be 1 or more"),
        ({"num_hidden_layers": -1}, "num_hidden_layers is -1; it must be 0 or more"),
        ({"head_dim": -3}, "head_dim is -3; it must be 1 or more"),
        ({"head_dim": 0}, "head_dim is 0; it must be 1 or more"),
        ({"intermediate_size": 0}, "intermediate_size is 0; it must be 1 or more"),
        ({"type_vocab_size": -1}, "type_vocab_size is -1; it must be 0 or more"),
        ({"dropout": 1.0}, "dropout is 1.0; it must be at least 0 and below 1"),
        ({"embedding_dropout": -0.1}, "embedding_dropout is -0.1; it must be at least 0"),
        ({"pooling": "max"}, "pooling is 'max'; it must be one of mean, first, positions"),
        ({"hidden_size": 64.0}, "hidden_size is 64.0; it must be a whole number"),
        ({"attention": "bigbird", "block_size": 8.5}, "block_size is 8.5; it must be a whole number"),
        ({"attention": "performer", "num_features": 2.5}, "num_features is 2.5; it must be a whole number"),
        ({"norm_position": "middle"}, "norm_position is 'middle'; it must be one of pre, post"),
        ({"hidden_act": "swish"}, "hidden_act is 'swish'; it must be one of gelu"),
        ({"head_activation": "swish"}, "head_activation is 'swish'; it must be one of gelu"),
        ({"attention": "longformer", "global_tokens": "last"}, "global_tokens is 'last'; it must be one of first,"),
        (
            {"attention": "longformer", "attention_window": 7},
            "attention_window is 7; .* even number, 2 or more",
        ),
        (
            {"attention": "longformer", "attention_window": 0},
            "attention_window is 0; .* even number, 2 or more",
        ),
        ({"attention": "longformer", "attention_window": [8]}, "1 entries; layer 1 needs one of its own"),
        ({"attention": "bigbird", "block_size": 0}, "block_size is 0; it must be 1 or more"),
        ({"attention": "bigbird", "num_random_blocks": -1}, "num_random_blocks is -1; it must be 0 or more"),
        ({"attention": "bigbird", "random_block_plan": "hf"}, "'hf'; it must be one of seeded, huggingface"),
        ({"attention": "performer", "num_features": 0}, "num_features is 0; it must be 1 or more"),
        ({"attention": "performer", "redraw_steps": 0}, "redraw_steps is 0; it must be 1 or more"),
        ({"attention": "performer", "redraw_steps": 9, "learned_features": True}, "redraw_steps would undo"),
        ({"attention": "performer", "sharpness": 1.5}, "sharpness is 1.5; it must be above 0 and at most 1"),
        ({"attention": "linformer", "projection_size": 0}, "projection_size is 0; it must be 1 or more"),
        ({"attention": "linformer", "projection_init": "eye"}, "'eye'; it must be one of normal, fold"),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_a_wrong_setting_is_named_with_its_mend(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as raised:
        build(**settings)
    assert "\n" not in str(raised.value)


def test_options_of_another_mechanism_are_refused() -> None:
    with pytest.raises(ValueError, match="options of bigbird must be BigBirdOptions"):
        ClassifierConfig(attention="bigbird", options=ATTENTIONS["performer"].Options())


def test_a_wrong_input_is_named_with_its_mend() -> None:
    encoder = model("linformer", max_length=16)
    ids = tokens(2, 17)
    with pytest.raises(ValueError, match="17 tokens and the model 16 positions; cut the text to max_length=16"):
        encoder(ids)
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[:, 3] = False
    assert encoder(ids, mask).shape == (2, 3)  # 16 real tokens in 17 slots
    with pytest.raises(ValueError, match=r"input_ids has shape \(17,\); it must be \[sequences, tokens\]"):
        encoder(ids[0])
    for name in ("mask", "token_type_ids", "global_mask"):
        with pytest.raises(ValueError, match=rf"{name} has shape \(2, 16\), input_ids \(2, 17\); they must"):
            encoder(ids, **{name: mask[:, 1:]})
    with pytest.raises(ValueError, match="linformer attention has no global tokens; leave global_mask out"):
        encoder(ids, mask, global_mask=mask)
    layer: Any = encoder.blocks[0].attention
    for call in (lambda x: layer(x, PackedBatch((17,))), layer.reference):
        with pytest.raises(ValueError, match=r"a row has 17 tokens; .* 16 positions"):
            call(normal(17, 12, dtype=torch.float32))


@pytest.mark.parametrize("attention", sorted(ATTENTIONS))
def test_a_model_is_copied_to_a_worker_process(attention: str) -> None:
    shape = {"vocab_size": VOCABULARY, "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}
    model = build(attention, **shape, head_activation="tanh", max_length=32).eval()
    ids = tokens(2, 9)
    with torch.inference_mode():
        before = model(ids, torch.ones(2, 9, dtype=torch.bool))
        again = pickle.loads(pickle.dumps(model))
        assert torch.equal(again(ids, torch.ones(2, 9, dtype=torch.bool)), before)
