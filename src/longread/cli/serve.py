"""`longread serve`: a checkpoint as a service."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from longread.cli import logs
from longread.cli.options import COMPUTING, CUT, Computing, OfComputing, OfLongTexts, asked_to_read
from longread.data.config import Cut
from longread.errors import UserError
from longread.serving.settings import ServeSettings

if TYPE_CHECKING:
    from longread.serving.service import Service

DEFAULTS = ServeSettings()


def serve(
    checkpoint: str,
    /,
    *,
    settings: Annotated[ServeSettings, Parameter(name="*")] = DEFAULTS,
    cut: OfLongTexts = CUT,
    computing: OfComputing = COMPUTING,
) -> int:
    """A checkpoint as a service over HTTP, with a page to try it.

    Example: longread serve out/runs/0123456789abcdef --port 8000, then open http://127.0.0.1:8000

    Parameters
    ----------
    checkpoint:
        A run's folder, a checkpoint's folder, a Hub id, or a NAME.onnx of `longread export`.
    """
    try:
        from longread.serving.server import serve as run
        from longread.serving.workers import serve_with_workers
    except ImportError as error:
        raise UserError(f"serve needs the extra serve ({error}); pip install 'longread[serve]'") from None
    load = partial(_load, checkpoint, settings, cut, computing)
    if settings.workers == 1:
        _begin(computing.precision)
        run(load, settings)
    else:
        serve_with_workers(load, settings, partial(_begin, computing.precision, logs.now()))
    return 0


def _begin(precision: str, log: logs.LogSettings | None = None) -> None:
    """What comes first in a process that has the model; a worker's log is its parent's."""
    from longread.system.allocator import tune_allocator

    if log is not None:
        logs.set_up(log)
    tune_allocator(precision)


def _load(checkpoint: str, settings: ServeSettings, cut: Cut, computing: Computing) -> Service:
    from longread.inference.predictor import load
    from longread.serving.service import Service

    threads = settings.threads or max(1, (os.cpu_count() or 1) // settings.workers)
    found = load(checkpoint, computing.device, precision=computing.precision, threads=threads)
    return Service(asked_to_read(found, cut), settings)
