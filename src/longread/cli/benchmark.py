"""`longread benchmark`: time and memory by length."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from longread.checks import Count
from longread.cli import logs
from longread.cli.options import ALL, NONE_MEASURED, JsonLines, OfMeasured, Several, given_options, panel
from longread.cli.places import check_folder
from longread.settings import WidthSettings


@dataclass(frozen=True, kw_only=True)
class BaseWidth(WidthSettings):
    """That of published checkpoints of base size."""

    hidden_size: Count = 768
    num_attention_heads: Count = 12


BASE_WIDTH = BaseWidth()


def benchmark(
    *,
    attention: Annotated[list[str], Several] = ALL,
    lengths: Annotated[list[int], Several] = [128, 256, 512, 1024, 2048, 4096, 8192, 16384],  # noqa: B006
    num_hidden_layers: int = 1,
    width: Annotated[BaseWidth, panel("Model", 2)] = BASE_WIDTH,
    precision: Literal["float32", "bfloat16"] = "float32",
    seconds: float = 1.0,
    threads: int | None = None,
    device: str = "auto",
    json_lines: JsonLines = False,
    out: Path = Path("out"),
    options: OfMeasured = NONE_MEASURED,
) -> int:
    """Time and memory of each mechanism by length, and the length from which it beats dense attention.

    Mechanisms have the sizes of their papers: a window of 512, blocks of 64 with three random ones, a projected length
    of 256, D ln D features for heads of D. What is given here replaces them; the table names the sizes.

    Example: longread benchmark --lengths 512 2048 8192 --precision bfloat16

    Parameters
    ----------
    attention:
        Mechanisms; dense is always measured too, the others are compared with it. A pattern that repeats over the
        layers is one value, in quotes, and needs as many layers: "dense local local".
    lengths:
        Tokens of the text.
    num_hidden_layers:
        Depth.
    precision:
        Of the computation.
    seconds:
        Time spent on each length and phase, at least three repeats.
    threads:
        Processor threads; default: all cores.
    device:
        Where to compute.
    json_lines:
        Print the run records as JSON lines on stdout.
    out:
        Where the records and the report are kept.
    """
    from longread.cli.lengths import LengthsView
    from longread.report import build_report
    from longread.study.benchmark import BenchmarkConfig, benchmarks
    from longread.study.compare import benchmark_all

    check_folder(out)
    base = BenchmarkConfig(
        attention="dense", lengths=tuple(sorted(set(lengths))), num_hidden_layers=num_hidden_layers, **vars(width),
        precision=precision, seconds=seconds, threads=threads, device=device, out=out,
    )  # fmt: skip
    configs = benchmarks(base, attention, given_options(options))
    with LengthsView(configs) as view:
        finished = benchmark_all(configs, on_event=view.on_event)
        view.table(finished)
    if json_lines:
        for run in finished:
            print(json.dumps(run.record))
    page = build_report(out)
    logs.result(f"report: {page}", report=page)
    return 0
