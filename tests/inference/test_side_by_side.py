"""Batches side by side: every row once, within the memory that was given, and the answers of one batch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_collate import lengths_only

from longread.inference import side_by_side
from longread.inference.evaluate import split_logits
from longread.models.classifier import build
from mechanisms import label, settings

CPU = torch.device("cpu")


@pytest.fixture
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@given(st.lists(st.integers(0, 300), max_size=80), st.integers(1, 2000), st.integers(1, 8))
def test_every_row_is_in_one_batch_and_memory_is_kept(lengths: list[int], tokens: int, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        at_once, together, alone = side_by_side.plan(np.arange(len(lengths)), np.array(lengths, dtype=int), tokens, CPU)
    finally:
        torch.set_num_threads(before)
    assert sorted(row for part in [*together, *alone] for row in part.tolist()) == list(range(len(lengths)))
    longest = [max(lengths[row] for row in part) for part in [*alone, *together]]
    assert longest == sorted(longest, reverse=True), "what is freed fits what comes later"
    sizes = [[lengths[row] for row in part if lengths[row]] for part in alone]
    assert all(sum(own) <= tokens or len(own) == 1 for own in sizes)
    if together:
        sizes = [sum(lengths[row] for row in part) for part in together]
        assert 1 < at_once <= min(threads, side_by_side.MOST)
        assert sum(sorted(sizes)[-at_once:]) <= tokens
        assert len(together) >= side_by_side.FEWEST * at_once


@pytest.mark.parametrize(("attention", "options"), settings(), ids=label)
@pytest.mark.usefixtures("four_threads")
def test_answers_are_those_of_one_batch_at_a_time(attention: str, options: dict[str, object]) -> None:
    torch.manual_seed(0)
    model = build(attention, vocab_size=8192, num_labels=3, **options).eval()
    split = lengths_only(*range(1, 90), 120)
    given = np.arange(len(split)), split.lengths, 400, CPU
    at_once, together, alone = side_by_side.plan(*given)
    assert at_once == 4
    assert len(together) > 16
    assert [part.tolist() for part in alone] == [[89]]
    told: list[tuple[int, float]] = []

    def hear(rows: int, fraction: float) -> None:
        told.append((rows, fraction))

    with ThreadPoolExecutor(1) as elsewhere:  # what is not the main thread leaves the threads as they are
        assert elsewhere.submit(side_by_side.plan, *given).result()[1] == []
        for precision in ("float32", "bfloat16"):
            found = split_logits(model, split, tokens=400, device=CPU, precision=precision, on_rows=hear)
            assert told == sorted(told) and told.pop() == (len(split), 1.0)
            told.clear()
            one = elsewhere.submit(split_logits, model, split, tokens=400, device=CPU, precision=precision).result()
            close = 1e-5 if precision == "float32" else 3e-2
            np.testing.assert_allclose(found.logits, one.logits, rtol=close, atol=close)
            assert (found.usage.tokens, found.usage.coverage) == (one.usage.tokens, one.usage.coverage)
            assert torch.get_num_threads() == 4
    assert (found.logits != split_logits(model, split, tokens=400, device=CPU).logits).any()  # bfloat16 is another


@pytest.mark.usefixtures("four_threads")
def test_rows_too_long_for_a_batch_beside_others_are_computed_before_them() -> None:
    model = build("dense", vocab_size=8192).eval()
    tokens: list[int] = []
    model.blocks[0].register_forward_pre_hook(lambda _, inputs: tokens.append(len(inputs[0])))
    split_logits(model, lengths_only(*range(1, 90), 120, 390), tokens=400, device=CPU)
    assert tokens[:2] == [390, 120]
    assert max(tokens[2:]) <= 100


@pytest.mark.usefixtures("four_threads")
def test_threads_are_divided_and_an_error_gives_them_back() -> None:
    def fail(item: int) -> int:
        assert torch.get_num_threads() == 2
        assert not torch.is_inference_mode_enabled()
        if item == 3:
            raise MemoryError("no room")
        return item

    seen: list[int] = []
    with pytest.raises(MemoryError, match="no room"), side_by_side.computed(fail, range(50), 2) as found:
        seen.extend(found)
    assert torch.get_num_threads() == 4
    assert seen == [0, 1, 2]
