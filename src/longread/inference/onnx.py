"""An exported ONNX file in use: the same answers as the checkpoint's, by onnxruntime and without torch's kernels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from longread.data.dataset import micro_batches
from longread.data.tokenizer import Encoded, Tokenizer
from longread.errors import UserError
from longread.models.export import METADATA


@dataclass
class OnnxModel:
    """Padded batches through one session. `logits` answers in the order of the texts."""

    session: Any
    tokenizer: Tokenizer
    label_names: tuple[str, ...]
    max_length: int
    token_types: bool

    def logits(self, encoded: Encoded, tokens: int = 8192) -> npt.NDArray[np.float32]:
        """[R, number of labels]. Sorted by length, so that little is padded; `tokens` of a batch, padding included."""
        count = len(encoded.lengths)
        found = np.zeros((count, len(self.label_names)), dtype=np.float32)
        for rows in micro_batches(np.arange(count), encoded.lengths, tokens):
            longest = int(encoded.lengths[rows].max())
            shape = (len(rows), max(1, longest))
            ids, mask, types = (np.zeros(shape, dtype=np.int64) for _ in range(3))
            for place, row in enumerate(rows.tolist()):
                begin, end = encoded.offsets[row], encoded.offsets[row + 1]
                ids[place, : end - begin] = encoded.tokens[begin:end]
                mask[place, : end - begin] = 1
                if encoded.types is not None:
                    types[place, : end - begin] = encoded.types[begin:end]
            inputs = {"input_ids": ids, "attention_mask": mask} | (
                {"token_type_ids": types} if self.token_types else {}
            )
            found[rows] = self.session.run(None, inputs)[0]
        return found


def load_onnx(path: Path, threads: int | None = None) -> OnnxModel:
    """UserError for a file that is no graph of `longread export`, or where the extra `onnx` is not installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(f"{path}: needs the extra onnx; pip install 'longread[onnx]'") from error
    import tokenizers

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=onnxruntime.get_available_providers())
        described = json.loads(session.get_modelmeta().custom_metadata_map[METADATA])
    except KeyError:
        raise UserError(f"{path}: carries no label names and tokenizer; make it with longread export") from None
    except Exception as error:  # the library raises its own kinds
        raise UserError(f"{path}: not an ONNX file that onnxruntime reads ({_first_line(error)})") from None
    if described["tokenizer"] is None:
        raise UserError(f"{path}: carries no tokenizer; export a checkpoint that has one")
    inner = tokenizers.Tokenizer.from_str(described["tokenizer"])
    inner.no_truncation()
    inner.no_padding()
    labels = tuple(described["labels"])
    return OnnxModel(session, Tokenizer(inner), labels, described["max_length"], described["token_types"])


def predict(model: OnnxModel, texts: Sequence[str], pairs: Sequence[str] | None = None) -> npt.NDArray[np.float64]:
    """Probabilities [R, number of labels]."""
    logits = model.logits(model.tokenizer.encode(texts, pairs, model.max_length)).astype(np.float64)
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)  # type: ignore[no-any-return]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
