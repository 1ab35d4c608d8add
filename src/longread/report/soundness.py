"""Is a record what the report takes it for? One that is not (edited, or written by something else) is left out by name.

What a field may be is written down here once, so that no table or figure has to ask. Whatever is absent or null is
fine: older versions recorded less. A number that is none (NaN, a text) stays out of its column and costs no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from longread.report.numbers import finite

if TYPE_CHECKING:
    from longread.records import Run

Check = Callable[[Any], bool]


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _object(value: Any) -> bool:
    return isinstance(value, dict)


def _objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _number(value: Any) -> bool:
    return finite(value) is not None


def _positive(value: Any) -> bool:
    return _count(value) and value > 0


def _numbers(value: Any) -> bool:
    return isinstance(value, dict) and all(_number(item) for item in value.values())


def _fraction(value: Any) -> bool:
    """Of rows. What is no number at all is a missing accuracy, which a run may have."""
    number = finite(value)
    return number is None or 0 <= number <= 1


def _classes(value: Any) -> bool:
    return isinstance(value, dict) and all(_has(of, "precision", "recall", "f1", "support") for of in value.values())


def _matrix(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(row, list) and len(row) == len(value) and all(map(_count, row)) for row in value
    )


def _bins(value: Any) -> bool:
    return _objects(value) and all(
        _has(found, "low", "high", "confidence", "right") and _positive(found.get("answers")) for found in value
    )


def _slices(value: Any) -> bool:
    return _objects(value) and all(
        _has(one, "from", "rows", "value", "low", "high") and (one.get("to") is None or _number(one["to"]))
        for one in value
    )


def _has(value: Any, *names: str) -> bool:
    """An object with a number under each name."""
    return isinstance(value, dict) and all(_number(value.get(name)) for name in names)


FIELDS: dict[str, Check] = {
    "run_id": _text, "kind": _text, "task": _text, "attention": _text, "init": _text, "error": _text, "command": _text,
    "memory_kind": _text, "seed": _count, "chosen_epoch": _count, "config": _object, "encoder": _object,
    "environment": _object, "environment.threads": _count, "dataset": _object, "dataset.label_names": _texts,
    "metrics": _object, "metrics.accuracy": _fraction, "effective_attention": _numbers, "conversion": _object,
    "kernels": _texts, "samples": _objects, "per_class": _classes, "confusion_matrix": _matrix, "calibration": _object,
    "calibration.bins": _bins, "by_length": _object, "by_length.measure": _text, "by_length.slices": _slices,
    "decision": _object, "pretraining": _object,
}  # fmt: skip
SPLIT: dict[str, Check] = {"": _object, ".rows": _count, ".rows_of_split": _count, ".fingerprint": _text}
FIELDS |= {f"dataset.{name}{part}": check for name in ("train", "eval", "selection") for part, check in SPLIT.items()}
DISTILLATION: dict[str, Check] = {
    "": _object, ".task": _text, ".rows_seen": _count, ".seconds": _number, ".distance_before": _number,
    ".distance_after": _number,
}  # fmt: skip
SAMPLE: dict[str, Check] = {
    "length": _positive, "phase": _text, "seconds": lambda value: isinstance(value, list),
}  # fmt: skip


def sound_runs(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """The runs that a report can be made of, and for each other one where it lies and what is odd about it.

    Control characters and line breaks in their texts become spaces: they would end a table's row or colour a terminal.
    """
    sound, odd = [], []
    for run in runs:
        fault = next(faults(run), None)
        if fault is None:
            sound.append(replace(run, record=printable(run.record)))
        else:
            odd.append(f"runs/{run.directory.name}: {fault}")
    return sound, odd


def printable(value: Any) -> Any:
    """The same record, every text in it (names of fields too) on one line and visible."""
    if isinstance(value, str):
        return value if value.isprintable() else "".join(c if c.isprintable() else " " for c in value)
    if isinstance(value, dict):
        return {printable(name): printable(inner) for name, inner in value.items()}
    return [printable(inner) for inner in value] if isinstance(value, list) else value


def faults(run: Run) -> Iterator[str]:
    record = run.record
    for path, check in FIELDS.items():
        value = _at(record, path)
        if value is not None and not check(value):
            yield f"{path} is {_shown(value)}"
    yield from _distillation_faults(record)
    for number, sample in enumerate(record.get("samples") or []):
        for name, check in SAMPLE.items():
            if not check(sample.get(name)):
                yield f"samples[{number}].{name} is {_shown(sample.get(name))}"
    for entry in run.history():
        if entry.get("epoch") is not None and not _count(entry["epoch"]):
            yield f"an epoch of its history is {_shown(entry['epoch'])}"
    if not _is_map(run.attention_map()):
        yield "its attention map has no square matrices"


def _distillation_faults(record: Mapping[str, Any]) -> Iterator[str]:
    conversion = record.get("conversion") or {}
    if conversion.get("distillation") is not None:
        for part, check in DISTILLATION.items():
            path = f"conversion.distillation{part}"
            if not check(_at(record, path)):
                yield f"{path} is {_shown(_at(record, path))}"


def _at(record: Mapping[str, Any], path: str) -> Any:
    value: Any = record
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:39] + "…"


def _is_map(stored: Any) -> bool:
    """None, or an object whose `heads` are matrices [H, N, N] of numbers, `mean` [N, N] beside them or not."""
    import numpy as np

    if stored is None:
        return True
    if not isinstance(stored, dict) or not isinstance(stored.get("tokens") or [], list):
        return False
    try:
        heads = np.asarray(stored.get("heads") or [], dtype=np.float64)
        mean = np.asarray(stored["mean"], dtype=np.float64) if stored.get("mean") is not None else None
        _ = float(stored.get("scale") or 1.0), int(stored.get("layer") or 0), int(stored.get("length") or 0)
    except (TypeError, ValueError, OverflowError):
        return False
    if heads.size and (heads.ndim != 3 or heads.shape[1] != heads.shape[2]):
        return False
    return mean is None or (mean.ndim == 2 and mean.shape[0] == mean.shape[1])
