"""Time and memory of a mechanism by length, beside the least time its operations could take on this machine."""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from longread import records
from longread.attention import ATTENTIONS
from longread.errors import UserError
from longread.models.classifier import Classifier, ClassifierConfig, build
from longread.ops.packed import PackedBatch
from longread.records import Environment, Run, RunRecord
from longread.system import runtime
from longread.system.allocator import give_back_memory
from longread.system.measure import PeakMemory, environment, foreign_load, matmul_rate, synchronise

LENGTHS = (128, 256, 512, 1024, 2048, 4096, 8192, 16_384)
PHASES = ("forward", "training", "mixing")
FEWEST_REPEATS, MOST_REPEATS = 3, 25
VOCABULARY = 1000


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """One mechanism, one shape, several lengths. A text of each length is read by itself (batch of 1)."""

    attention: str
    lengths: tuple[int, ...] = LENGTHS
    num_hidden_layers: int = 1
    hidden_size: int = 768
    num_attention_heads: int = 12
    head_dim: int | None = None
    options: tuple[tuple[str, Any], ...] = ()  # settings of the mechanism
    precision: str = "float32"
    seconds: float = 1.0  # of measuring for each length and phase, at least FEWEST_REPEATS repeats
    longest_training: int | None = None  # a training step is not measured above this length
    threads: int | None = None
    device: str = "auto"
    out: Path = Path("out")

    def __post_init__(self) -> None:
        if self.attention not in ATTENTIONS:
            raise UserError(
                f"--attention {self.attention!r}: there is no such mechanism; there are {', '.join(ATTENTIONS)}"
            )
        if not self.lengths or min(self.lengths) < 1:
            raise UserError("--lengths: give one or more, each at least 1 token")
        if self.precision not in ("float32", "bfloat16"):
            raise UserError(f"--precision {self.precision!r}: must be float32 or bfloat16")

    def named(self) -> dict[str, Any]:
        flat = {k: v for k, v in vars(self).items() if k not in ("out", "options") and v is not None}
        return flat | dict(self.options) | {"lengths": list(self.lengths)}


def benchmark(config: BenchmarkConfig, *, on_event: Callable[[dict[str, Any]], None] = lambda event: None) -> Run:
    """Measures; the record is written, its samples added to those of earlier runs of the same configuration.

    Every raw value is kept. Forward is inference; a training step is forward and backward, without the optimizer;
    mixing is what one layer does between its projections, in inference.
    """
    device = runtime.pick_device(config.device)
    torch.set_num_threads(config.threads or torch.get_num_threads())
    config = replace(config, threads=torch.get_num_threads(), device=device.type)
    load = foreign_load()
    model = build(
        config.attention,
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        head_dim=config.head_dim,
        vocab_size=VOCABULARY,
        max_length=max(config.lengths),
        dropout=0.0,
        **dict(config.options),
    ).to(device)
    name = records.run_id("benchmark", config.named(), 0, ())
    rate = matmul_rate(device, config.precision)
    samples: list[dict[str, Any]] = []
    for length in sorted(config.lengths):
        for phase in PHASES:
            if phase == "training" and config.longest_training and length > config.longest_training:
                continue
            floor = _flops(model, length, phase) / rate
            on_event({"event": "progress", "attention": config.attention, "length": length, "phase": phase})
            samples.append(
                {"length": length, "phase": phase, **_measure(model, length, phase, config), "floor_seconds": floor}
            )
    earlier = records.find_run(config.out, name)
    record = RunRecord(
        run_id=name,
        kind="benchmark",
        status="ok",
        task="lengths",
        attention=config.attention,
        init="scratch",
        config=config.named(),
        encoder=model.config.to_dict(),
        seed=0,
        samples=(*(earlier.record["samples"] if earlier is not None else []), *samples),
        num_parameters=model.num_parameters,
        memory_kind=PeakMemory(device).kind,
        matmul_flops_per_second=rate,
        environment=Environment(
            **environment(device, config.precision), load_at_start=load, load_at_end=foreign_load()
        ),
    )
    run = records.write_record(config.out, record)
    on_event({"event": "end", "run_id": name, "status": "ok", "error": None})
    return run


def _measure(model: Classifier, length: int, phase: str, config: BenchmarkConfig) -> dict[str, Any]:
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(length)
    tokens = torch.randint(VOCABULARY, (length,), generator=generator).to(device)
    cast = torch.autocast(device.type, torch.bfloat16, config.precision == "bfloat16")

    def forward() -> None:
        with torch.inference_mode(), cast:
            model.classify(tokens, PackedBatch((length,), device))

    def training() -> None:
        with cast:
            loss = model.classify(tokens, PackedBatch((length,), device)).float().logsumexp(1).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        model.zero_grad(set_to_none=True)

    def mixing() -> None:
        with torch.inference_mode(), cast:
            attention.mix(x, PackedBatch((length,), device))

    model.train(phase == "training")
    work = {"forward": forward, "training": training, "mixing": mixing}[phase]
    if phase == "mixing":
        with torch.inference_mode(), cast:
            x = torch.randn(length, model.config.hidden_size, generator=generator).to(device)
            x = x.bfloat16() if config.precision == "bfloat16" else x
            attention = _projected(model.blocks[0].attention, x)  # type: ignore[arg-type]
    work()  # warm up: what it loads once is no part of the work
    give_back_memory()
    memory = PeakMemory(device)
    seconds: list[float] = []
    while len(seconds) < FEWEST_REPEATS or (sum(seconds) < config.seconds and len(seconds) < MOST_REPEATS):
        synchronise(device)
        start = time.perf_counter()
        work()
        synchronise(device)
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds, "peak_memory_bytes": memory.bytes()}


def _projected(attention: torch.nn.Module, x: torch.Tensor) -> Any:
    """A copy whose projections of all tokens answer at once: what is left is the mixing.

    Linformer projects the folded keys and values, not the tokens: there, that stays part of it.
    """
    attention = copy.deepcopy(attention).eval()
    for name in ("query", "key", "value"):
        linear = getattr(attention, name)
        linear.forward = functools.partial(_answer, linear(x))
    return attention


def _answer(given: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return given


def _flops(model: Classifier, length: int, phase: str) -> float:
    if phase == "mixing":
        return float(model.blocks[0].attention.flops(length))  # type: ignore[operator, union-attr]
    return model_flops(model, length) * (3 if phase == "training" else 1)


def model_flops(model: Classifier, length: int) -> float:
    """Of one row, forward: products only, which is where the time goes. Embedding and head are not counted."""
    config: ClassifierConfig = model.config
    inner = config.num_attention_heads * config.width_of_head
    projections = 2.0 * length * 4 * config.hidden_size * inner
    feed_forward = 2.0 * length * 2 * config.hidden_size * config.width_of_intermediate
    mixing = sum(block.attention.flops(length) for block in model.blocks)  # type: ignore[operator, union-attr]
    return len(model.blocks) * (projections + feed_forward) + mixing
