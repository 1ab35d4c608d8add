"""`longread calibrate`: a temperature and thresholds for a checkpoint that is trained already."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from longread.cli import logs
from longread.cli.places import check_new_folder


def calibrate(
    checkpoint: str,
    rows: str,
    /,
    *,
    out: Path,
    choose_threshold: Literal["f1", "f1_macro", "accuracy"] | None = None,
    text_columns: Annotated[list[str] | None, Parameter(consume_multiple=1)] = None,
    label_columns: Annotated[list[str] | None, Parameter(consume_multiple=1)] = None,
    label_separator: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    device: str = "auto",
) -> int:
    """A checkpoint with probabilities that mean what they say on rows of yours: a temperature goes into its weights.

    Example: longread calibrate out/runs/0123456789abcdef held-out.csv --out out/calibrated

    The rows must be neither training rows nor those that are reported: what is measured on them afterwards flatters.
    To hold them out of train from the start: longread train --calibrate.

    Parameters
    ----------
    checkpoint:
        A run's folder, a checkpoint's folder, or a Hub id.
    rows:
        A file with texts and labels.
    out:
        Folder to write the calibrated checkpoint to; it must not exist yet, or be empty.
    choose_threshold:
        As in train: also choose the probability above which the second of two classes, or each of several labels, is
        given. Default: those of the checkpoint, if it has any, moved so that they give the same labels.
    text_columns:
        Column of the text, or two for pairs. Default: the columns of training, or the obvious ones.
    label_columns:
        Column of the class, or several of 0 and 1.
    label_separator:
        As in train.
    encoding:
        As in train.
    delimiter:
        As in train.
    device:
        Where to compute: auto (a GPU where there is one), cpu, cuda, cuda:N or mps.
    """
    check_new_folder(out)
    from longread.config import RunConfig
    from longread.training.calibrate import calibrate as choose

    config = RunConfig(
        text_columns=None if text_columns is None else tuple(text_columns),
        label_columns=None if label_columns is None else tuple(label_columns),
        label_separator=label_separator, encoding=encoding, delimiter=delimiter, device=device,
    )  # fmt: skip
    choose(checkpoint, rows, out, choose_threshold=choose_threshold, config=config)
    logs.result(f"checkpoint: {out}", checkpoint=out)
    return 0
