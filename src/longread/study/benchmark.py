"""Time and memory of a mechanism by length, beside the least time its operations could take on this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from longread import records
from longread.attention.pattern import make_options, published_sizes, settings_of
from longread.config import BASELINES, RunConfig
from longread.errors import UserError, option_name
from longread.models.classifier import Classifier, build
from longread.records import Environment, Run, RunRecord
from longread.study.timing import floor_flops, measure
from longread.system import runtime
from longread.system.measure import PeakMemory, environment, foreign_load, matmul_rate
from longread.training.resolve import check_depth, known_attention, own_options, resolve

LENGTHS = (128, 256, 512, 1024, 2048, 4096, 8192, 16_384)
PHASES = ("forward", "training", "mixing")
VOCABULARY = 1000
# What a measurement depends on beside its configuration: with another of these it is another record.
MACHINE = ("processor", "torch", "commit", "dirty", "allocator")
Listener = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """One mechanism or pattern of them, one shape, several lengths. A text of each is read by itself (batch of 1)."""

    attention: str
    lengths: tuple[int, ...] = LENGTHS
    num_hidden_layers: int = 1
    hidden_size: int = 768
    num_attention_heads: int = 12
    head_dim: int | None = None
    sizes: Literal["published", "given", "own"] = "given"  # where the mechanism's settings come from
    options: tuple[tuple[str, Any], ...] = ()  # settings of the mechanism
    precision: str = "float32"
    seconds: float = 1.0  # of measuring for each length and phase, at least three repeats
    longest_training: int | None = None  # a training step is not measured above this length
    threads: int | None = None
    device: str = "auto"
    out: Path = Path("out")

    def __post_init__(self) -> None:
        object.__setattr__(self, "attention", known_mechanisms(self.attention))
        check_depth(self.attention, self.num_hidden_layers)
        if not self.lengths or min(self.lengths) < 1:
            raise UserError("--lengths: give one or more, each at least 1 token")
        if self.precision not in ("float32", "bfloat16"):
            raise UserError(f"--precision {self.precision!r}: must be float32 or bfloat16")

    def named(self) -> dict[str, Any]:
        flat = {k: v for k, v in vars(self).items() if k not in ("out", "options") and v is not None}
        return flat | dict(self.options) | {"lengths": list(self.lengths)}


def benchmarks(base: BenchmarkConfig, attentions: Sequence[str], given: dict[str, Any]) -> list[BenchmarkConfig]:
    """`base` for each mechanism at its published sizes, dense always among them; `given` settings replace them.

    UserError for a mechanism that is not there, and for a setting that none of these has.
    """
    found = []
    for name in with_dense(attentions):
        own = own_options(name, given)
        sizes: Literal["published", "given"] = "given" if given else "published"
        options = published_sizes(name, _head_dim(base)) | own
        try:
            make_options(name, options)
        except ValueError as error:
            raise UserError(str(error)) from None
        found.append(replace(base, attention=name, sizes=sizes, options=tuple(sorted(options.items()))))
    for setting in given:
        if not any(setting in dict(config.options) for config in found):
            asked = ", ".join(config.attention for config in found)
            raise UserError(f"{option_name(setting)}: no setting of {asked}; leave it out, or add its mechanism")
    return found


def benchmarks_of(config: RunConfig, attentions: Sequence[str], lengths: Sequence[int]) -> list[BenchmarkConfig]:
    """One layer of a run's shape for each mechanism, at the run's own settings; dense always among them.

    Where there is a pattern, as many layers as the longest one has. UserError for what cannot be.
    """
    depth = max((len(known_mechanisms(name).split()) for name in attentions), default=1)
    base = BenchmarkConfig(
        attention="dense", lengths=tuple(sorted(set(lengths))), num_hidden_layers=depth,
        hidden_size=config.hidden_size, num_attention_heads=config.num_attention_heads, head_dim=config.head_dim,
        sizes="own", seconds=0.3, threads=config.threads, device=config.device, out=config.out,
    )  # fmt: skip
    found = []
    for name in with_dense(attentions):
        own = own_options(name, config.options)
        one = replace(config, attention=name, options=own, attention_dropout=0.0, num_hidden_layers=depth)
        given = resolve(one).options
        settings = {k: v for made in make_options(name, given) for k, v in vars(made).items()}
        sizes = published_sizes(name, _head_dim(base))
        options = {k: sizes.get(k) if v is None else v for k, v in settings.items()}
        options = {k: v for k, v in options.items() if k in sizes or v != settings_of(name)[k].default}
        found.append(replace(base, attention=name, options=tuple(sorted(options.items()))))
    return found


def with_dense(attentions: Sequence[str]) -> list[str]:
    """Each mechanism once, dense first: the others are compared with it. UserError for one that is not there."""
    return list(dict.fromkeys(("dense", *map(known_mechanisms, attentions))))


def known_mechanisms(attention: str) -> str:
    """The pattern in its one form. UserError for a mechanism that is not there; a baseline is none."""
    if attention in BASELINES:
        raise UserError(f"--attention {attention!r}: a linear model has no attention to measure; name a mechanism")
    return known_attention(attention)


def _head_dim(config: BenchmarkConfig) -> int:
    return config.head_dim or config.hidden_size // config.num_attention_heads


def benchmark(config: BenchmarkConfig, *, on_event: Listener = lambda event: None) -> Run:
    """Measures; the record is written, its samples added to those of earlier runs of the same identity.

    That is the same configuration on the same processor, with the same torch, commit and allocator. Every raw value is
    kept. Forward is inference; a training step is forward and backward, without the optimizer; mixing is what one layer
    does between its projections, in inference.
    """
    device = runtime.pick_device(config.device)
    torch.set_num_threads(config.threads or torch.get_num_threads())
    config = replace(config, threads=torch.get_num_threads(), device=str(device))
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
    machine = environment(device, config.precision)
    name = records.run_id("benchmark", config.named(), 0, [f"{key}={machine[key]}" for key in MACHINE])
    rate = matmul_rate(device, config.precision)
    samples = _samples(model, config, rate, on_event)
    earlier = records.find_run(config.out, name)
    record = RunRecord(
        run_id=name,
        kind="benchmark",
        status="ok",
        task="lengths",
        attention=config.attention,
        mechanism=model.config.look(),
        init="scratch",
        config=config.named(),
        encoder=model.config.to_dict(),
        seed=0,
        samples=(*(earlier.record["samples"] if earlier is not None else ()), *samples),
        num_parameters=model.num_parameters,
        memory_kind=PeakMemory(device).kind,
        matmul_flops_per_second=rate,
        environment=Environment(**machine, load_at_start=load, load_at_end=foreign_load()),
    )
    run = records.write_record(config.out, record)
    on_event({"event": "end", "run_id": name, "status": "ok", "error": None})
    return run


def _samples(model: Classifier, config: BenchmarkConfig, rate: float, on_event: Listener) -> list[dict[str, Any]]:
    """One for each length and phase; rate: operations per second that the machine can do at most."""
    samples = []
    for length in sorted(config.lengths):
        for phase in PHASES:
            if phase == "training" and config.longest_training and length > config.longest_training:
                continue
            floor = floor_flops(model, length, phase) / rate
            on_event({"event": "progress", "attention": config.attention, "length": length, "phase": phase})
            found = measure(model, length, phase, config.precision, config.seconds)
            samples.append({"length": length, "phase": phase, **found, "floor_seconds": floor})
    return samples
