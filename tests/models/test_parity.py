"""The same numbers as transformers: hidden states, logits, gradients, and losses of a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers")

from longread.models.checkpoint import from_pretrained, save_pretrained
from peers import batch, compare, ours_from, random_peer

TINY = 5e-6  # float32, in parts of the largest number
FULL_SIZE = 1e-4

FAMILIES: list[tuple[str, dict[str, Any]]] = [
    ("bert", {}),
    ("bert", {"num_hidden_layers": 3, "hidden_act": "relu", "layer_norm_eps": 1e-3, "type_vocab_size": 5}),
    ("bert", {"hidden_size": 20, "num_attention_heads": 1, "hidden_act": "gelu_new", "num_labels": 1}),
    ("roberta", {}),
    ("roberta", {"pad_token_id": 0, "hidden_act": "silu", "type_vocab_size": 1}),
    ("xlm-roberta", {"num_hidden_layers": 1}),
    ("camembert", {"num_hidden_layers": 1, "hidden_act": "relu"}),
    ("electra", {"embedding_size": 16}),
    ("electra", {"embedding_size": 24, "hidden_act": "relu", "num_hidden_layers": 1, "type_vocab_size": 1}),
    ("electra", {"embedding_size": 40, "num_attention_heads": 2, "layer_norm_eps": 1e-5}),
    ("distilbert", {}),
    ("distilbert", {"dim": 20, "n_heads": 2, "n_layers": 3, "activation": "gelu_new", "num_labels": 1}),
    ("modernbert", {"local_attention": 8}),
    ("modernbert", {"num_hidden_layers": 4, "local_attention": 16, "classifier_pooling": "mean"}),
    ("modernbert", {"global_attn_every_n_layers": 2, "num_hidden_layers": 5, "local_attention": 2, "norm_eps": 1e-3}),
    ("modernbert", {"local_attention": 7}),
    (
        "modernbert",
        {"attention_bias": True, "norm_bias": True, "mlp_bias": True, "classifier_bias": True, "num_labels": 1}
        | {"hidden_activation": "gelu_new", "classifier_activation": "silu", "hidden_size": 32},
    ),
    ("modernbert", {"layer_types": ["sliding_attention", "full_attention"], "local_attention": 30}),
    ("mpnet", {}),
    ("mpnet", {"num_hidden_layers": 3, "hidden_act": "relu", "layer_norm_eps": 1e-3, "pad_token_id": 1}),
    ("mpnet", {"hidden_size": 20, "num_attention_heads": 1, "hidden_act": "gelu_new", "num_labels": 1}),
    ("longformer", {"attention_window": 8}),
    ("longformer", {"attention_window": [8, 32], "type_vocab_size": 1, "layer_norm_eps": 1e-5}),
    ("longformer", {"attention_window": [48, 4, 16], "num_hidden_layers": 3, "hidden_act": "gelu_new"}),
    ("longformer", {"attention_window": [6, 42], "num_attention_heads": 2, "pad_token_id": 0}),
    ("big_bird", {"attention_type": "original_full", "rescale_embeddings": True}),
    ("big_bird", {"block_size": 64, "hidden_act": "relu"}),  # below its threshold throughout
]
# (settings, length): rows of one length above the threshold, where the pattern of blocks bites.
BLOCKS: list[tuple[dict[str, Any], int]] = [
    ({"block_size": 1, "num_random_blocks": 1}, 8),
    ({"block_size": 4, "num_random_blocks": 2}, 333),
    ({"block_size": 3, "num_random_blocks": 1, "hidden_act": "tanh"}, 22),
    ({"block_size": 7, "num_random_blocks": 3, "rescale_embeddings": True, "num_hidden_layers": 3}, 601),
    ({"block_size": 16, "num_random_blocks": 3, "type_vocab_size": 1, "use_bias": False}, 177),
    ({"block_size": 20, "num_random_blocks": 1, "hidden_act": "relu", "layer_norm_eps": 1e-5}, 699),
]
LENGTHS = (61, 1, 300, 17, 2, 701, 9)


def name(value: object) -> str | None:
    if isinstance(value, dict):
        return ",".join(f"{k}={v}" for k, v in value.items()) or "defaults"
    return None


def assert_close(errors: dict[str, float], bound: float) -> None:
    worst = max(errors, key=lambda key: errors[key])
    assert errors[worst] <= bound, f"{worst} is off by {errors[worst]:.1e} of its largest number"


@pytest.mark.parametrize(("family", "settings"), FAMILIES, ids=name)
def test_padded_batches_match(family: str, settings: dict[str, Any], tmp_path: Path) -> None:
    peer = random_peer(family, seed=len(str(settings)), **settings)
    lengths = LENGTHS if family == "longformer" else tuple(min(n, 400) for n in LENGTHS)
    ours = ours_from(peer, tmp_path)
    assert_close(compare(peer, ours, lengths, gradients=True), TINY)
    # Training alone would show it.
    assert ours.config.dropout_before_head == (family not in ("bert", "distilbert", "modernbert"))


@pytest.mark.parametrize("pad_token_id", [0, 1, 5])
def test_mpnet_counts_positions_from_1_whatever_its_padding_token(pad_token_id: int, tmp_path: Path) -> None:
    """Read, written and read again by both."""
    peer = random_peer("mpnet", seed=4, pad_token_id=pad_token_id)
    ours = ours_from(peer, tmp_path / "theirs")
    assert_close(compare(peer, ours, (61, 1, 30)), TINY)
    save_pretrained(ours, tmp_path / "ours", layout="huggingface")
    again = type(peer).from_pretrained(tmp_path / "ours", attn_implementation="eager").eval()
    assert again.config.pad_token_id == pad_token_id
    assert_close(compare(peer, from_pretrained(tmp_path / "ours"), (61, 1, 30)), TINY)
    assert_close(compare(again, ours, (61, 1, 30)), TINY)


@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "distilbert", "modernbert"])
def test_their_fused_attention_matches_too(family: str, tmp_path: Path) -> None:
    """What from_pretrained picks; everywhere else the peer is the eager one."""
    peer = random_peer(family, seed=3, attn_implementation="sdpa")
    errors = compare(peer, ours_from(peer, tmp_path), (61, 1, 300, 17), gradients=True)
    assert errors.pop("gradients") <= FULL_SIZE  # their backward pass sums in another order
    assert_close(errors, TINY)


@pytest.mark.parametrize(("settings", "length"), BLOCKS, ids=name)
def test_blocks_of_bigbird_match(settings: dict[str, Any], length: int, tmp_path: Path) -> None:
    peer = random_peer("big_bird", seed=length, **settings)
    model = ours_from(peer, tmp_path)
    assert model.blocks[0].attention.coverage([length])["global+window+random"] == length
    assert_close(compare(peer, model, (length, length), gradients=True), TINY)


def test_bigbirds_threshold_matches(tmp_path: Path) -> None:
    peer = random_peer("big_bird", block_size=4, num_random_blocks=1)
    model = ours_from(peer, tmp_path)
    for length in (29, 28):  # in this order: once short, their model stays dense for good
        assert_close(compare(peer, model, (length, length)), TINY)


def test_longformers_other_global_tokens_match(tmp_path: Path) -> None:
    peer = random_peer("longformer", attention_window=[8, 16])
    model = ours_from(peer, tmp_path)
    errors = compare(peer, model, (203, 40), gradients=True, global_positions=(0, 3, 30, 31))
    assert_close(errors, TINY)


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("longformer", {"attention_window": [8, 32]}),
        ("big_bird", {"block_size": 8, "num_random_blocks": 2}),
        ("mpnet", {}),
        ("modernbert", {"local_attention": 16, "num_hidden_layers": 3, "classifier_pooling": "mean"}),
        ("electra", {"embedding_size": 16}),
        ("distilbert", {}),
    ],
    ids=name,
)
def test_twenty_steps_of_training_match(family: str, settings: dict[str, Any], tmp_path: Path) -> None:
    """From one initialisation, without dropout: the same losses, and weights that have moved alike."""
    peer = random_peer(family, seed=4, **settings)
    model = ours_from(peer, tmp_path).train()
    blocks = family == "big_bird"
    if not blocks:
        peer.train()  # BigBird's training mode draws other blocks
    batches = [((150, 150, 150) if blocks else (150, 101, 64), seed) for seed in range(5)]
    labels = torch.tensor([0, 2, 1])
    ours, theirs = [], []
    optimizers = [torch.optim.AdamW(m.parameters(), lr=3e-3, weight_decay=0.01, foreach=False) for m in (model, peer)]
    for step in range(20):
        ids, mask, types = batch(peer, *batches[step % len(batches)])
        told = {"token_type_ids": types} if hasattr(peer.config, "type_vocab_size") else {}
        peers = peer(ids, attention_mask=mask.long(), **told).logits
        outputs = (model(ids, mask, types if model.config.type_vocab_size else None), peers)
        for losses, optimizer, logits in zip((ours, theirs), optimizers, outputs, strict=True):
            loss = torch.nn.functional.cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) < 1e-4
    assert sum(theirs[-5:]) < 0.75 * sum(theirs[:5])  # something was learnt


LONG: list[tuple[str, dict[str, Any], tuple[int, ...]]] = [
    ("bert", {"hidden_size": 48, "num_hidden_layers": 4}, (2099, 513, 1)),
    ("roberta", {"hidden_size": 32, "num_attention_heads": 4}, (1999, 1001, 5)),
    ("mpnet", {"hidden_size": 32, "num_attention_heads": 4}, (1999, 513, 5)),
    ("modernbert", {"hidden_size": 48, "num_hidden_layers": 4}, (2099, 513, 1)),
    ("longformer", {"attention_window": [64, 512, 128, 256], "num_hidden_layers": 4}, (2099, 511, 257, 1300, 3)),
    ("longformer", {"attention_window": [100, 50, 10]} | {"num_hidden_layers": 3}, (1777, 51, 2)),
    ("big_bird", {"block_size": 64, "num_random_blocks": 3}, (2099, 2099)),
    ("big_bird", {"block_size": 64, "num_random_blocks": 3}, (705, 705)),
    ("big_bird", {"block_size": 64, "num_random_blocks": 3}, (704, 703, 1)),
    ("big_bird", {"block_size": 8, "num_random_blocks": 2}, (1019, 1019)),  # padded to 1,024: their older plan
    ("big_bird", {"block_size": 13, "num_random_blocks": 5, "hidden_size": 40, "num_attention_heads": 5}, (1501,) * 2),
]


@pytest.mark.slow
@pytest.mark.parametrize(("family", "settings", "lengths"), LONG, ids=name)
def test_long_rows_match(family: str, settings: dict[str, Any], lengths: tuple[int, ...], tmp_path: Path) -> None:
    peer = random_peer(family, seed=3, **({"max_position_embeddings": 2200} | settings))
    assert_close(compare(peer, ours_from(peer, tmp_path), lengths, gradients=True), TINY)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "settings", "lengths"),
    [
        ("roberta", {}, (300, 41)),
        ("mpnet", {}, (300, 41)),
        ("modernbert", {"num_hidden_layers": 22, "intermediate_size": 1152, "num_attention_heads": 12}, (603, 41)),
        ("longformer", {"attention_window": [64, 128] * 6}, (603, 41)),
        ("big_bird", {"block_size": 32, "num_random_blocks": 3, "hidden_act": "gelu_new"}, (603, 603)),
    ],
    ids=name,
)
def test_full_size_matches(family: str, settings: dict[str, Any], lengths: tuple[int, ...], tmp_path: Path) -> None:
    size = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
    peer = random_peer(family, seed=3, **(size | settings))
    assert_close(compare(peer, ours_from(peer, tmp_path), lengths, gradients=True), FULL_SIZE)
