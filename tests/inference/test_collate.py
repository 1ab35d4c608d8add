"""Micro-batches: what token dropout keeps, texts without tokens, the end of a pair's first text, batches made ahead."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from longread.attention import ATTENTIONS
from longread.data.batches import micro_batches
from longread.data.dataset import Split
from longread.data.tokenizer import Encoded, Tokenizer, byte_tokenizer
from longread.inference.collate import kept_tokens, made_ahead, make_batch, planned_batches
from longread.inference.evaluate import predict_split
from longread.models.classifier import build
from pair_tokenizers import roberta_like

CPU = torch.device("cpu")


def split_of(encoded: Encoded, marks: tuple[int, ...] = ()) -> Split:
    rows = np.arange(len(encoded.offsets) - 1)
    return Split(encoded, rows % 2, rows, "train", "made", ("a", "b"), "", marks)


def lengths_only(*lengths: int) -> Split:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = np.arange(1, offsets[-1] + 1, dtype=np.int32)
    return split_of(Encoded(tokens, offsets, None, np.zeros(len(lengths), dtype=bool)))


def test_token_dropout_keeps_what_marks_a_texts_ends() -> None:
    tokenizer = byte_tokenizer()
    encoded = tokenizer.encode(["a long first text", "b", ""], ["and its partner", "", "c"], 64)
    split, rows = split_of(encoded, tokenizer.marks), np.arange(3)
    batch = make_batch(split, rows, CPU, kept_tokens(split, rows, 0.999, np.random.default_rng(0)))
    start, end = tokenizer.marks
    assert batch.tokens.tolist() == [start, end, end] * 3
    assert batch.packed.lengths == (3, 3, 3)
    assert batch.packed.first_text_lengths == (2, 2, 2)
    half = make_batch(split, rows, CPU, kept_tokens(split, rows, 0.5, np.random.default_rng(0)))
    for ids, first in zip(half.tokens.split(half.packed.lengths), half.packed.first_text_lengths or (), strict=True):
        assert ids[first - 1] == ids[-1] == end
        assert (ids == end).sum() == 2
    assert sum(half.packed.lengths) < sum(encoded.lengths)


@pytest.mark.parametrize(("make", "expected"), [(byte_tokenizer, [8, 4, 2]), (roberta_like, [5, 3, 1])])
def test_a_pairs_first_text_is_known_with_and_without_token_types(
    make: Callable[[], Tokenizer], expected: list[int]
) -> None:
    encoded = make().encode(["a a a", "a", ""], ["b b", "", "b b"], 64)
    assert encoded.first_texts is not None
    assert encoded.first_texts.tolist() == expected
    assert make().encode(["a a a"], None, 64).first_texts is None


def test_longformer_reads_the_first_text_of_a_pair_without_token_types() -> None:
    """All token types are 0: every token would be global, at quadratic cost."""
    split = split_of(roberta_like().encode(["a a a", "a b"], ["b " * 40, "b " * 30], 64))
    model = build("longformer", vocab_size=8, attention_window=4, global_tokens="first_text", type_vocab_size=1).eval()
    batch = make_batch(split, np.arange(2), CPU)
    found = predict_split(model, split, tokens=1000, device=CPU)
    assert +found.usage.coverage == {"global": 2 * 9, "window+global": 2 * (batch.packed.num_tokens - 9)}
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones(n, dtype=torch.bool) for n in batch.packed.lengths], True)
    ids = torch.zeros(mask.shape, dtype=torch.long)
    ids[mask] = batch.tokens
    chosen = torch.arange(mask.shape[1]) < torch.tensor([[5], [4]])
    expected = model(ids, mask, global_mask=chosen).softmax(1).detach().numpy()
    np.testing.assert_allclose(found.answers, expected, atol=1e-6)
    single = split_of(roberta_like().encode(["a b " * 20], None, 64))
    assert predict_split(model, single, tokens=99, device=CPU).usage.effective_attention == {"window+global": 1.0}


@pytest.mark.parametrize("name", ATTENTIONS)
def test_a_text_without_a_token_has_an_answer_and_no_gradient(name: str) -> None:
    model = build(name, vocab_size=64, hidden_size=8, num_attention_heads=2)
    found = predict_split(model.eval(), lengths_only(3, 0, 5, 0), tokens=4, device=CPU)
    np.testing.assert_allclose(found.answers[[1, 3]], 0.5)
    assert not np.allclose(found.answers[[0, 2]], 0.5)
    for lengths in ((0, 0), (4, 0, 2)):
        model.zero_grad()
        split = lengths_only(*lengths)
        (batch,) = planned_batches(model.train(), [make_batch(split, np.arange(len(split)), CPU)], gradients=True)
        logits = model.classify(batch.tokens, batch.packed)
        torch.nn.functional.cross_entropy(logits, batch.labels).backward()
        gradient = model.head.classifier.weight.grad
        assert gradient is None or gradient.isfinite().all()
        assert (logits[[n == 0 for n in lengths]] == 0).all()


def test_texts_without_a_token_share_a_micro_batch_with_others() -> None:
    lengths = np.array([0, 9, 0, 3])
    assert [part.tolist() for part in micro_batches(np.arange(4), lengths, 2)] == [[0, 2, 3], [1]]


def test_lengths_are_computed_once() -> None:
    split = lengths_only(3, 4)
    assert split.lengths is split.lengths


# ---- batches made ahead ---------------------------------------------------------------------------


def test_batches_made_ahead_are_the_same_in_order_and_come_from_another_thread() -> None:
    threads: set[int] = set()

    def items() -> Iterator[int]:
        for i in range(20):
            threads.add(threading.get_ident())
            yield i

    assert list(made_ahead(items(), 2)) == list(range(20))
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_no_more_than_asked_are_made_ahead_and_none_after_the_end() -> None:
    made: list[int] = []
    at_the_second, go_on = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        for i in range(100):
            made.append(i)
            if i == 1:
                at_the_second.set()
                go_on.wait()
            yield i

    some = made_ahead(items(), 3)
    assert next(some) == 0
    at_the_second.wait()
    threading.Timer(0.02, go_on.set).start()
    some.close()  # what waits behind the second is dropped
    assert made == [0, 1]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_an_error_in_the_thread_is_raised_where_its_batch_would_come() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("no second one")

    some = made_ahead(items(), 2)
    assert next(some) == 1
    with pytest.raises(ValueError, match="no second one"):
        next(some)


def test_planning_leaves_torchs_random_state_alone() -> None:
    for name in ATTENTIONS:
        model, split, rows = build(name, vocab_size=64), lengths_only(3, 9, 40), np.arange(3)
        before = torch.get_rng_state()
        batch = make_batch(split, rows, CPU, kept_tokens(split, rows, 0.3, np.random.default_rng(0)))
        assert list(planned_batches(model, [batch], precision="bfloat16", gradients=True)) == [batch]
        assert torch.equal(before, torch.get_rng_state())
