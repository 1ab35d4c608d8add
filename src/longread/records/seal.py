"""Was a record changed behind the program's back? Checksums against a hand or a fault of the disk, not against forgery.

`checksum` is of all that a record says, and stands in the file alone. `contents` is of what lies beside the record: the
history, and the predictions as far as every form of their file keeps them to the bit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from longread.records.files import canonical, fingerprint

if TYPE_CHECKING:
    from longread.records.predictions import Predicted

CHECKSUM = "checksum"


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with its checksum, for a file."""
    content = {name: value for name, value in record.items() if name != CHECKSUM}
    return content | {CHECKSUM: fingerprint(canonical(content))}


def unsealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record without its checksum. ValueError where it is of another content; older records have none."""
    content = {name: value for name, value in record.items() if name != CHECKSUM}
    if CHECKSUM in record and record[CHECKSUM] != fingerprint(canonical(content)):
        raise ValueError("it was changed after it was written: its checksum is that of another content")
    return content


def contents_of(history: Sequence[Mapping[str, Any]], predicted: Predicted | None) -> dict[str, str]:
    """What lies beside a record, by name: history, and predictions (their rows, labels and predicted values)."""
    found = {"history": fingerprint(json.dumps(list(history), sort_keys=True))} if history else {}
    return found if predicted is None else found | {"predictions": _of_predictions(predicted)}


def _of_predictions(predicted: Predicted) -> str:
    """In the order of the rows, which is that of a file for several runs."""
    import numpy as np

    order = np.argsort(predicted["row"], kind="stable")
    parts: list[str | bytes] = []
    for name in ("row", "label", "predicted"):
        values = predicted[name][order]
        values = values.astype(np.int64 if np.issubdtype(values.dtype, np.integer) else np.float64)
        parts += [str(values.shape), np.ascontiguousarray(values).tobytes()]
    return fingerprint(*parts)
