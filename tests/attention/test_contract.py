"""The contract of an attention mechanism, for each in ATTENTIONS, and what each promises of its own.

A new mechanism is tested by the first part as soon as it stands in ATTENTIONS; add settings that make it sparse
to `mechanisms.SPARSE`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import settings as budget
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop

from longread.attention import ATTENTIONS
from longread.attention.bigbird import BigBirdAttention
from longread.attention.longformer import LongformerAttention
from longread.attention.performer import PerformerAttention
from longread.ops import projected_offsets
from longread.ops.packed import PackedBatch
from mechanisms import (
    SHAPES,
    accelerator_operators,
    allocations,
    assert_equal,
    label,
    layer,
    normal,
    relative_error,
    settings,
    sparse_settings,
    stacked_references,
    with_gradients,
)

EFFICIENT = [name for name in ATTENTIONS if name != "dense"]
# PackedBatch in any order, from one token to far beyond every sparse window, with equal neighbours.
LENGTH = st.one_of(st.integers(1, 12), st.integers(1, 40), st.integers(60, 150))
LENGTHS = st.lists(st.tuples(LENGTH, st.sampled_from([1, 1, 2])), min_size=1, max_size=4).map(
    lambda runs: [length for length, times in runs for _ in range(times)]
)
# More than one tile of queries, sequences too long to be padded, and full attention beside sparse.
LONG = [300, 300, 1, 290, 7, 7, 33, 130]

every_setting = pytest.mark.parametrize(("name", "options"), settings(), ids=label)
every_mechanism = pytest.mark.parametrize(("name", "options"), sparse_settings(), ids=label)


def check_equals_references(
    name: str,
    options: dict[str, Any],
    lengths: Sequence[int],
    *,
    shape: tuple[int, int, int] = SHAPES[1],
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    tolerance: float = 1e-10,
    global_positions: tuple[tuple[int, ...], ...] | None = None,
    gain: float = 1.5,
    size: float = 1.0,
    **made: Any,
) -> None:
    """The packed batch in `dtype` against its sequences' references in float64: outputs and all gradients."""
    made |= {"shape": shape, "seed": seed, "dtype": dtype, "gain": gain}
    fast, exact = layer(name, options, **made), layer(name, options, **made).double()  # the same weights
    x = (size * normal(sum(lengths), shape[0], seed=seed, dtype=dtype)).requires_grad_()
    x_exact = x.detach().double().requires_grad_()
    out = fast(x, PackedBatch(tuple(lengths), global_positions=global_positions))
    expected = stacked_references(exact, x_exact, lengths, global_positions)
    assert_equal(with_gradients(fast, x, out), with_gradients(exact, x_exact, expected), tolerance)


# ---- the contract --------------------------------------------------------------------------------


@every_setting
@given(lengths=LENGTHS, shape=st.sampled_from(SHAPES), seed=st.integers(0, 2**16))
@example(lengths=LONG, shape=SHAPES[1], seed=0)
@budget(max_examples=10, derandomize=True, deadline=None, database=None)
def test_a_packed_batch_equals_its_rows_references(
    name: str, options: dict[str, Any], lengths: list[int], shape: tuple[int, int, int], seed: int
) -> None:
    check_equals_references(name, options, lengths, shape=shape, seed=seed)


@pytest.mark.parametrize("name", ATTENTIONS)
def test_defaults_equal_the_references_beyond_their_threshold(name: str) -> None:
    check_equals_references(name, {}, [706, 3, 706, 705, 704])


@every_setting
def test_every_length_equals_its_reference(name: str, options: dict[str, Any]) -> None:
    attention = layer(name, options)
    lengths = range(1, 81)
    x = normal(sum(lengths), 12)
    alone = torch.cat([attention(row, PackedBatch((len(row),))) for row in x.split(list(lengths))])
    expected = stacked_references(attention, x, lengths)
    assert_equal({"alone": alone}, {"alone": expected}, 1e-10)
    assert_equal({"packed": attention(x, PackedBatch(tuple(lengths)))}, {"packed": expected}, 1e-10)


@every_mechanism
@pytest.mark.parametrize("operators", ["processor", "accelerator"])
def test_float32_equals_the_references(name: str, options: dict[str, Any], operators: str) -> None:
    """float32 has kernels of its own. A rounding is 6e-8, and sums run over some hundred numbers."""
    with accelerator_operators() if operators == "accelerator" else nullcontext():
        for lengths in (LONG, [9, 40, 9, 9, 21]):
            check_equals_references(name, options, lengths, dtype=torch.float32, tolerance=1e-4, gain=1.0)


@every_setting
def test_the_accelerators_operators_equal_the_references(name: str, options: dict[str, Any]) -> None:
    with accelerator_operators():
        check_equals_references(name, options, LONG)
        check_equals_references(name, options, [9, 40, 9, 9, 21])


@every_setting
@pytest.mark.parametrize("large", [False, True], ids=["small", "large weights"])
def test_bfloat16_is_close_to_float32(name: str, options: dict[str, Any], large: bool) -> None:
    """A rounding to bfloat16 is 2^-9; some dozen follow each other and partly cancel: 8 * 2^-8 at most.

    Large weights have scores of 40, and what rounds query and key is some hundredths in the exponent: an output keeps
    the bound, since few keys matter then; a gradient is a difference of such numbers.
    """
    lengths = [1, 60, 60, 24, 300]
    x = normal(sum(lengths), 32, dtype=torch.bfloat16).float().requires_grad_()
    made = {"shape": (32, 2, 16), "gain": 1.5 if large else 0.7, "query_bias": 6.0 if large else 0.5}
    half = layer(name, options, dtype=torch.bfloat16, **made)
    exact, autocast = (layer(name, options, dtype=torch.bfloat16, **made).float() for _ in range(2))
    wanted = with_gradients(exact, x, exact(x, PackedBatch(tuple(lengths))))
    with torch.autocast("cpu", torch.bfloat16):
        out = autocast(x, PackedBatch(tuple(lengths)))
    found = with_gradients(autocast, x, out.float())
    x_half = x.detach().bfloat16().requires_grad_()
    found_half = with_gradients(half, x_half, half(x_half, PackedBatch(tuple(lengths))))
    # Gradients as one vector: the key bias has a gradient of zero, which no relative error can measure.
    for values in (found, found_half):
        assert relative_error(values["output"], wanted["output"]) < 8 * 2**-8
        flat, flat_wanted = (
            torch.cat([g.float().flatten() for n, g in v.items() if n != "output"]) for v in (values, wanted)
        )
        assert relative_error(flat, flat_wanted) < (32 if large else 8) * 2**-8


@every_setting
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_large_inputs_stay_finite(name: str, options: dict[str, Any], dtype: torch.dtype) -> None:
    """Scores in the thousands: exp of them overflows wherever a maximum is not subtracted."""
    attention = layer(name, options, dtype=dtype)
    lengths = (1, 50, 50, 33, 300)
    x = (30 * normal(sum(lengths), 12)).to(dtype).requires_grad_()
    for what, value in with_gradients(attention, x, attention(x, PackedBatch(lengths))).items():
        assert value.isfinite().all(), what


@every_mechanism
def test_large_inputs_equal_the_references(name: str, options: dict[str, Any]) -> None:
    """Padding is the smallest key of all here: it must not take part in a maximum either."""
    for lengths in ([1], [3, 9, 9, 20], [50]):
        check_equals_references(name, options, lengths, tolerance=1e-9, size=8)


@every_mechanism
def test_one_seed_one_layer(name: str, options: dict[str, Any]) -> None:
    x, batch = normal(90, 12), PackedBatch((50, 40))
    first, second, other = (layer(name, options, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first(x, batch), second(x, batch))
    assert torch.equal(first(x, batch), first.eval()(x, PackedBatch((50, 40))))
    assert not torch.equal(first(x, batch), other(x, batch))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ATTENTIONS)
def test_no_tensor_of_tokens_times_tokens_and_linear_memory(name: str, dtype: torch.dtype) -> None:
    # Small heads and projected lengths beside N, so that nothing but N x N reaches half of N x N elements.
    options = {
        "longformer": {"attention_window": 32},
        "bigbird": {"block_size": 8, "num_random_blocks": 2},
        "performer": {"num_features": 16},
        "linformer": {"projection_size": 16},
        "local": {"local_window": 32},
    }.get(name, {})
    length = 1024
    attention = layer(name, options, shape=(16, 1, 8), dtype=dtype, max_length=2 * length)
    once, twice = allocations(attention, length, dtype), allocations(attention, 2 * length, dtype)
    for phase, small, large in zip(("forward", "backward"), once, twice, strict=True):
        assert {"mm", "addmm", "bmm", "_linear_pointwise"} & large.operators, f"{phase} did not run under the watch"
        assert large.largest < (2 * length) ** 2 / 2, phase
        if name in EFFICIENT:
            assert large.largest <= 2.2 * small.largest, phase
            assert large.total_bytes <= 2.2 * small.total_bytes, phase


@every_setting
@given(lengths=LENGTHS)
@budget(max_examples=10, derandomize=True, deadline=None, database=None)
def test_coverage_counts_every_token_once(name: str, options: dict[str, Any], lengths: list[int]) -> None:
    counted = layer(name, options).coverage(lengths)
    assert sum(counted.values()) == sum(lengths)
    assert min(counted.values()) >= 0
    assert layer(name, options).covered(PackedBatch(lengths)) == counted


@pytest.mark.parametrize(("name", "made"), [
    *((name, {}) for name in ATTENTIONS),
    ("linformer", {"rotary_base": 30.0}),
    *((name, {"relative": True}) for name in ATTENTIONS if ATTENTIONS[name].supports_relative_bias),
], ids=str)  # fmt: skip
def test_flops_are_those_of_the_fast_path(name: str, made: dict[str, Any]) -> None:
    """`flops` and the four projections are a floor of what torch counts, at most 1.6 times below it."""
    # As much mixing as projecting, so that neither hides the other.
    options = {
        "longformer": {"attention_window": 256},
        "bigbird": {"block_size": 32, "num_random_blocks": 2},
        "performer": {"num_features": 256},
        "linformer": {"projection_size": 128},
        "local": {"local_window": 256},
    }.get(name, {})
    attention = layer(name, options, shape=(64, 2, 32), dtype=torch.float32, max_length=4096, **made)
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    count: dict[Any, Any] = {fused: lambda q, k, v, *_, **__: sdpa_flop(q, k, v)}
    totals = []
    for length in (128, 1024, 2048, 4096):
        with FlopCounterMode(display=False, custom_mapping=count) as counter, torch.no_grad():
            attention(normal(length, 64, dtype=torch.float32), PackedBatch((length,)))
        totals.append(attention.flops(length) + 8 * length * 64 * 64)
        assert 0.97 * totals[-1] <= counter.get_total_flops() <= 1.6 * totals[-1]
    if isinstance(attention, LongformerAttention):
        chosen = PackedBatch((2048,), global_positions=[range(100)])
        with FlopCounterMode(display=False, custom_mapping=count) as counter, torch.no_grad():
            attention(normal(2048, 64, dtype=torch.float32), chosen)
        total = attention.flops(2048, global_tokens=100) + 8 * 2048 * 64 * 64
        assert 0.97 * total <= counter.get_total_flops() <= 1.6 * total
    assert all((1.9 < more / less < 2.1) == (name != "dense") for less, more in pairwise(totals[1:]))
    if name == "dense":
        assert attention.flops(2048) == 4 * attention.flops(1024)


# ---- positions ---------------------------------------------------------------------------------

ROTARY = [(name, options) for name, options in settings() if ATTENTIONS[name].supports_rotary]
RELATIVE = [(name, options) for name, options in settings() if ATTENTIONS[name].supports_relative_bias]


@pytest.mark.parametrize(("name", "options"), ROTARY, ids=label)
@pytest.mark.parametrize("operators", ["processor", "accelerator"])
def test_rotary_positions_equal_the_references(name: str, options: dict[str, Any], operators: str) -> None:
    """And projections without biases, as such models have them."""
    with accelerator_operators() if operators == "accelerator" else nullcontext():
        for lengths, bias in ((LONG, False), ([9, 40, 9, 9, 21], False), ([9, 40, 9, 9, 21], True)):
            check_equals_references(name, options, lengths, shape=SHAPES[0], bias=bias, rotary_base=30.0)
    if ATTENTIONS[name].has_global_tokens:
        chosen = ((299, 5), (17,), (0,), (), (2, 6, 1), (0,), (), (129, 128, 0))
        made = {"shape": SHAPES[0], "global_positions": chosen, "rotary_base": 30.0}
        check_equals_references(name, options, LONG, **made)


BY_POSITION = [(n, o, {"rotary_base": 30.0}) for n, o in ROTARY] + [(n, o, {"relative": True}) for n, o in RELATIVE]


@pytest.mark.parametrize(("name", "options", "positions"), BY_POSITION, ids=str)
def test_positions_are_close_in_bfloat16(name: str, options: dict[str, Any], positions: dict[str, Any]) -> None:
    made: dict[str, Any] = {"shape": (32, 2, 16), "gain": 0.7, "dtype": torch.bfloat16, **positions}
    x, batch = normal(445, 32, dtype=torch.bfloat16), PackedBatch([1, 60, 60, 24, 300])
    half, exact = layer(name, options, **made)(x, batch), layer(name, options, **made).float()(x.float(), batch)
    assert relative_error(half.float(), exact) < 8 * 2**-8


@pytest.mark.parametrize(("name", "options"), RELATIVE, ids=label)
@pytest.mark.parametrize("operators", ["processor", "accelerator"])
def test_a_bias_by_offset_equals_the_references(name: str, options: dict[str, Any], operators: str) -> None:
    """Its own gradient is among those compared."""
    with accelerator_operators() if operators == "accelerator" else nullcontext():
        for lengths in (LONG, [9, 40, 9, 9, 21]):
            check_equals_references(name, options, lengths, relative=True)
    if ATTENTIONS[name].has_global_tokens:
        chosen = ((299, 5), (17,), (0,), (), (2, 6, 1), (0,), (), (129, 128, 0))
        check_equals_references(name, options, LONG, relative=True, global_positions=chosen)


def test_a_projected_bias_is_the_same_in_small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that are padded together, whose ends lie in different tiles, and a projection longer than some of them."""
    monkeypatch.setattr(projected_offsets, "GATHERED", 30_000)
    check_equals_references("linformer", {"projection_size": 33}, [100, 9, 98, 97, 99, 1], relative=True)


@pytest.mark.parametrize(("name", "options"), RELATIVE, ids=label)
def test_numbers_of_a_bias_may_be_large(name: str, options: dict[str, Any]) -> None:
    """Exponentials of their differences are beyond float32, and the largest belong to offsets that a row has not."""
    made: dict[str, Any] = {"shape": SHAPES[0], "gain": 0.7, "relative": True, "relative_std": 100.0}
    check_equals_references(name, options, [9, 40, 9, 300, 1], dtype=torch.float32, tolerance=1e-3, **made)


@pytest.mark.parametrize(("name", "options"), RELATIVE, ids=label)
@torch.no_grad()
def test_a_bias_by_offset_is_the_same_without_gradients(name: str, options: dict[str, Any]) -> None:
    attention = layer(name, options, relative=True)
    x = normal(sum(LONG), 12)
    expected = stacked_references(attention, x, LONG)
    assert_equal({"output": attention(x, PackedBatch(LONG))}, {"output": expected}, 1e-10)


@pytest.mark.parametrize(("name", "positions"), [
    *((name, {"relative": True}) for name in ATTENTIONS if ATTENTIONS[name].supports_relative_bias),
    *((name, {"rotary_base": 30.0}) for name in ATTENTIONS if ATTENTIONS[name].supports_rotary),
], ids=lambda value: value if isinstance(value, str) else next(iter(value)))  # fmt: skip
def test_positions_make_no_tensor_of_tokens_times_tokens(name: str, positions: dict[str, Any]) -> None:
    sparse = {
        "longformer": {"attention_window": 32},
        "local": {"local_window": 32},
        "bigbird": {"block_size": 8},
        "performer": {"num_features": 16},
        "linformer": {"projection_size": 16},
    }.get(name, {})
    attention = layer(name, sparse, shape=(16, 1, 8), dtype=torch.float32, max_length=4096, **positions)
    once, twice = (allocations(attention, length, torch.float32) for length in (2048, 4096))
    for phase, small, large in zip(("forward", "backward"), once, twice, strict=True):
        assert small.largest < 2048**2 / 2, phase
        if name in EFFICIENT:
            assert large.total_bytes <= 2.1 * small.total_bytes, phase


def test_rotary_scores_depend_on_differences_of_positions() -> None:
    """Attention of one token repeated is even under any base, and turned heads keep their length."""
    attention = layer("dense", {}, shape=SHAPES[0], rotary_base=30.0)
    heads = normal(2, 50, 6)
    turned = attention.turned(heads)
    assert torch.allclose(turned.norm(dim=-1), heads.norm(dim=-1), atol=1e-6)
    same = attention.turned(heads[:, :1].expand(-1, 50, -1))
    scores = same @ same.mT
    assert torch.allclose(scores[:, 3, 10], scores[:, 33, 40], atol=1e-5)
    assert not torch.allclose(scores[:, 3, 10], scores[:, 3, 11], atol=1e-2)


# ---- what each promises of its own ---------------------------------------------------------------


def with_weights_of_dense(name: str, options: dict[str, Any], **made: Any) -> tuple[Any, Any]:
    """The mechanism and a dense layer with the same projections (Longformer's global ones copied)."""
    mechanism, dense = layer(name, options, **made), layer("dense", {}, **made)
    _, unexpected = mechanism.load_state_dict(dense.state_dict(), strict=False)
    assert not unexpected
    if name == "longformer":
        for part in ("query", "key", "value"):
            getattr(mechanism, f"{part}_global").load_state_dict(getattr(dense, part).state_dict())
    return mechanism, dense


def distance_to_dense(mechanism: Any, dense: Any, length: int, seed: int = 0) -> float:
    x = normal(length, dense.query.in_features, seed=seed)
    return relative_error(mechanism(x, PackedBatch((length,))), dense.reference(x)[0])


def test_dense_is_torchs_attention() -> None:
    dense = layer("dense", {})
    x = normal(40, 12)
    q, k, v = (dense.row_heads(project, x) for project in (dense.query, dense.key, dense.value))
    expected = dense.row_output(torch.nn.functional.scaled_dot_product_attention(q, k, v))
    assert_equal({"output": dense.reference(x)[0]}, {"output": expected}, 1e-12)


@pytest.mark.parametrize(
    ("name", "options", "longest"),
    [
        ("longformer", {"attention_window": 2}, 3),  # attention_window / 2 + 2: the first token is global
        ("longformer", {"attention_window": 6}, 5),
        ("longformer", {"attention_window": 512}, 258),
        ("bigbird", {"block_size": 4, "num_random_blocks": 1}, 28),  # (5 + 2 * 1) * 4
        ("bigbird", {"block_size": 3, "num_random_blocks": 2, "random_block_plan": "huggingface"}, 27),
        ("bigbird", {}, 704),
        ("linformer", {"projection_size": 5, "projection_init": "fold"}, 5),
        ("linformer", {"projection_init": "fold"}, 128),
    ],
    ids=label,
)
def test_short_rows_have_dense_attention(name: str, options: dict[str, Any], longest: int) -> None:
    mechanism, dense = with_weights_of_dense(name, options)
    for length in {1, 2, longest // 2 + 1, longest - 1, longest}:
        assert distance_to_dense(mechanism, dense, length) < 1e-12, length
    assert distance_to_dense(mechanism, dense, longest + 1) > 1e-6


@pytest.mark.parametrize("positions", [{"rotary_base": 30.0}, {"relative": True}], ids=str)
@pytest.mark.parametrize("length", [1, 2, 7, 40])
def test_linformer_with_the_identity_is_dense_with_positions(length: int, positions: dict[str, Any]) -> None:
    """Keys are turned before they are projected; the other way round, the projection of a sum has no position."""
    made: dict[str, Any] = {"shape": SHAPES[0], **positions}
    options = {"projection_size": 40, "projection_init": "fold"}
    mechanism, dense = with_weights_of_dense("linformer", options, **made)
    assert torch.equal(mechanism.key_projection[:40], torch.eye(40, dtype=torch.float64))
    assert distance_to_dense(mechanism, dense, length) < 1e-12
    assert distance_to_dense(mechanism, layer("dense", {}, shape=SHAPES[0]), length) > 1e-3 or length == 1


@pytest.mark.parametrize("relative", [False, True])
def test_performer_comes_closer_to_dense_with_more_features(relative: bool) -> None:
    def mean_error(num_features: int) -> float:
        errors = []
        for seed in range(12):
            made: dict[str, Any] = {"shape": (16, 2, 8), "gain": 0.4, "seed": seed, "relative": relative}
            performer, dense = with_weights_of_dense("performer", {"num_features": num_features}, **made)
            for linear in (performer.query, performer.key, dense.query, dense.key):
                torch.nn.init.zeros_(linear.bias)  # what all keys share is nothing to softmax, and noise here
            errors.append(distance_to_dense(performer, dense, 40))
        return sum(errors) / len(errors)

    errors = [mean_error(count) for count in (16, 64, 256, 1024)]
    assert all(more < 0.7 * less for less, more in pairwise(errors)), errors  # 0.5 in theory: 1 / sqrt(4)


@given(data=st.data())
@budget(max_examples=25, derandomize=True, deadline=None, database=None)
def test_longformer_with_global_positions_of_the_caller(data: st.DataObject) -> None:
    """Any positions, the first among them or not, another number in every sequence, none in some."""
    lengths = data.draw(LENGTHS)
    chosen = tuple(tuple(data.draw(st.lists(st.integers(0, n - 1), max_size=4, unique=True))) for n in lengths)
    check_equals_references("longformer", {"attention_window": 6}, lengths, global_positions=chosen)


@pytest.mark.parametrize("operators", ["processor", "accelerator"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_longformer_with_global_positions_in_long_rows(operators: str, dtype: torch.dtype) -> None:
    chosen = ((299, 5), (17,), (0,), (), (2, 6, 1), (0,), (), (129, 128, 0))
    tolerance = 1e-10 if dtype == torch.float64 else 1e-4
    with accelerator_operators() if operators == "accelerator" else nullcontext():
        for window in (6, 300):
            check_equals_references(
                "longformer",
                {"attention_window": window},
                LONG,
                dtype=dtype,
                tolerance=tolerance,
                global_positions=chosen,
                gain=1.0,
            )


def test_longformer_sees_its_window_and_the_global_tokens() -> None:
    attention = layer("longformer", {"attention_window": 4})
    assert isinstance(attention, LongformerAttention)
    local, over_all = attention.reference(normal(12, 12), (3, 9))[1]
    place = torch.arange(12)
    is_global = (place == 3) | (place == 9)
    near = (place[:, None] - place).abs() <= 2
    assert torch.equal(local > 0, ((near | is_global) & ~is_global[:, None]).expand_as(local))
    assert torch.equal(over_all > 0, is_global[:, None].expand_as(over_all))
    assert torch.allclose((local + over_all).sum(-1), torch.ones((), dtype=torch.float64))


@pytest.mark.parametrize("window", [2, 10, 64])
def test_local_attention_is_longformers_without_a_global_token(window: int) -> None:
    local = layer("local", {"local_window": window})
    matrix = local.reference(normal(90, 12))[1]
    place = torch.arange(90)
    near = (place[:, None] - place).abs() <= window // 2
    assert torch.equal(matrix > 0, near.expand_as(matrix))
    assert local.coverage([window // 2 + 1, 90]) == {"full": window // 2 + 1, "window": 90}


def test_longformer_counts_the_global_tokens_that_were_chosen() -> None:
    attention = layer("longformer", {"attention_window": 4})
    batch = PackedBatch((3, 20, 9), global_positions=[(0,), (3, 9), ()])
    assert attention.covered(batch) == {"full": 3, "global": 2, "window+global": 27}


def test_longformer_has_a_window_for_each_layer() -> None:
    options = LongformerAttention.Options(attention_window=(4, 10))
    assert [LongformerAttention(12, 2, 6, 64, options, layer=i).side for i in (0, 1)] == [2, 5]
    with pytest.raises(ValueError, match="2 entries; layer 2 needs one"):
        LongformerAttention(12, 2, 6, 64, options, layer=2)


def bigbird(seed: int = 0, at: int = 1, **options: Any) -> BigBirdAttention:
    return BigBirdAttention(12, 3, 5, 800, BigBirdAttention.Options(**options), layer=at, seed=seed)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_bigbirds_random_blocks_are_new_and_distinct(count: int) -> None:
    for seed in range(3):
        for num_blocks in range(5 + 2 * count + 1, 40, 3):
            plan = bigbird(seed=seed, block_size=2, num_random_blocks=count).pattern.random_blocks(num_blocks)
            assert plan.shape == (3, num_blocks - 2, count)
            assert plan.min() > 0
            assert plan.max() < num_blocks - 1
            middle = torch.arange(1, num_blocks - 1)[:, None]
            assert ((plan - middle).abs() > 1).all(), "a block of the window was drawn"
            assert all(len(set(drawn)) == count for head in plan.tolist() for drawn in head), "drawn twice"


def test_bigbirds_random_plan_is_a_function_of_seed_layer_head_and_number_of_blocks() -> None:
    def plan(num_blocks: int = 30, **made: Any) -> Tensor:
        return bigbird(block_size=2, num_random_blocks=2, **made).pattern.random_blocks(num_blocks)

    torch.manual_seed(1)
    before = plan()
    torch.manual_seed(2)
    assert torch.equal(before, plan())
    assert not torch.equal(before, plan(seed=1))
    assert not torch.equal(before, plan(at=2))
    assert not torch.equal(before[0], before[1])
    assert not torch.equal(before[:, :20], plan(num_blocks=31)[:, :20])
    assert set(before.flatten().tolist()) == set(range(1, 29))  # every block between is drawn somewhere


@pytest.mark.parametrize("plan", ["seeded", "huggingface"])
def test_bigbird_sees_its_pattern_and_counts_blocks_that_are_seen_twice(plan: str) -> None:
    """With a query of zero all scores are equal, and A shows how often each key is counted."""
    size, num_blocks, count = 3, 12, 2
    attention = bigbird(block_size=size, num_random_blocks=count, random_block_plan=plan)
    for parameter in attention.query.parameters():
        torch.nn.init.zeros_(parameter)
    matrix = attention.reference(normal(size * num_blocks, 12, dtype=torch.float32))[1]
    per_block = matrix.unflatten(1, (num_blocks, size)).unflatten(3, (num_blocks, size))[:, :, 0, :, 0]
    drawn = attention.pattern.random_blocks(num_blocks)
    last = num_blocks - 1
    for head in range(3):
        for i in range(num_blocks):
            times = dict.fromkeys(range(num_blocks) if i in (0, last) else {0, i - 1, i, i + 1, last}, 1)
            if plan == "huggingface" and 0 < i < last:
                times[0] = 1 + count
            elif 0 < i < last:
                times |= dict.fromkeys(drawn[head, i - 1].tolist(), 1)
            counts = torch.tensor([times.get(j, 0) for j in range(num_blocks)])
            assert torch.allclose(per_block[head, i], counts / (counts.sum() * size)), (head, i)


def test_bigbird_decides_for_each_row_and_call() -> None:
    attention = bigbird(block_size=4, num_random_blocks=1).double()
    short, long = normal(28, 12, seed=1), normal(61, 12, seed=2)
    expected = {len(x): attention.reference(x)[0] for x in (short, long)}
    dense = layer("dense", {})
    dense.load_state_dict(attention.state_dict())
    assert relative_error(expected[28], dense.reference(short)[0]) < 1e-12
    for x in (short, long, short, long):
        assert relative_error(attention(x, PackedBatch((len(x),))), expected[len(x)]) < 1e-12
    mixed = attention(torch.cat([short, long, short]), PackedBatch((28, 61, 28)))
    assert relative_error(mixed, torch.cat([expected[28], expected[61], expected[28]])) < 1e-12
    for _ in range(2):
        assert attention.coverage([28, 29, 61, 5]) == {"full": 33, "global+window+random": 90}


def performer(seed: int = 0) -> PerformerAttention:
    made = layer("performer", {"num_features": 20}, seed=seed)
    assert isinstance(made, PerformerAttention)
    return made


def test_performer_draws_new_features_only_when_asked() -> None:
    first, second = performer(), performer()
    kept = first.features.clone()
    x, batch = normal(30, 12), PackedBatch((30,))
    for mode in (True, False):
        first.train(mode)(x, batch)
    assert torch.equal(first.features, kept)
    first.redraw()
    second.redraw()
    assert torch.equal(first.features, second.features)
    assert not torch.isclose(first.features, kept).any()
    # A layer that is loaded goes on with the sequence where the saved one stood.
    loaded = performer()
    loaded.load_state_dict(first.state_dict())
    first.redraw()
    loaded.redraw()
    assert torch.equal(first.features, loaded.features)
    assert not torch.isclose(first.features, second.features).any()
    assert not torch.isclose(performer(seed=1).features, kept).any()


def test_performers_exponents_are_float32_in_bfloat16() -> None:
    """Exponents of some ten, rounded to 2^-9 of themselves, would go into exp: twice the error of all the rest."""
    errors = []
    for seed in range(6):
        x = (3 * normal(100, 32, seed=seed)).bfloat16()
        half, same = (layer("performer", {}, shape=(32, 2, 16), dtype=torch.bfloat16, seed=seed) for _ in range(2))
        errors.append(relative_error(half(x, PackedBatch((60, 40))), same.float()(x.float(), PackedBatch((60, 40)))))
    assert sum(errors) / len(errors) < 3 * 2**-8


@pytest.mark.parametrize("autocast", [False, True])
def test_a_centred_performers_two_products_are_one_scores_even_in_bfloat16(autocast: bool) -> None:
    """What the features follow, and a key's own log-weight of up to 40 beside it, up to what all keys share."""
    attention = layer("performer", {"centred": True}, shape=(32, 2, 16), dtype=torch.bfloat16)
    assert isinstance(attention, PerformerAttention)
    query, key = (normal(1, 2, 50, 16, seed=seed) for seed in (1, 2))
    query, key = (query + 10).bfloat16(), (key - 3).bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        q, k, weight = attention._followed(query, key, None)
    assert weight is not None
    assert weight.std() > 8  # so many nats apart are the keys by it alone
    split = q.double() @ k.double().mT * attention.scale + weight.double().unsqueeze(2)
    whole = query.double() @ key.double().mT * attention.scale
    error = split - whole
    assert (error - error.mean(-1, keepdim=True)).abs().max() < 0.02


def test_performers_features_are_orthogonal_and_as_long_as_gaussian_vectors() -> None:
    made = layer("performer", {"num_features": 4000}, shape=(8, 1, 8))
    assert isinstance(made, PerformerAttention)
    blocks = made.features.unflatten(0, (500, 8))
    products = blocks @ blocks.transpose(1, 2)
    squares = products.diagonal(dim1=1, dim2=2)
    assert (products - torch.diag_embed(squares)).abs().max() < 1e-5
    # Chi-squared with 8 degrees of freedom: mean 8, variance 16; the mean of 4000 is off by 0.06.
    assert squares.mean().item() == pytest.approx(8, abs=0.3)
    assert squares.var().item() == pytest.approx(16, rel=0.15)
    assert made.features.mean(0).abs().max() < 0.1  # no direction is preferred
