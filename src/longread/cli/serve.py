"""`longread serve`: a checkpoint as a service."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from longread.cli.options import COMPUTING, CUT, OfComputing, OfLongTexts
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
        A run's folder, a checkpoint's folder, or a Hub id.
    """
    try:
        from longread.serving.server import serve as run
    except ImportError as error:
        raise UserError(f"serve needs the extra serve ({error}); pip install 'longread[serve]'") from None
    from longread.system.allocator import tune_allocator

    tune_allocator()
    from longread.inference.predictor import load
    from longread.serving.service import Service

    def start() -> Service:
        return Service(replace(load(checkpoint, computing.device, precision=computing.precision), cut=cut), settings)

    run(start, settings)
    return 0
