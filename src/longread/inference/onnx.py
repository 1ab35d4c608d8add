"""An exported ONNX file in use: the same answers as the checkpoint's, by onnxruntime and without torch's kernels."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from longread.data.batches import Indices, by_length
from longread.data.config import Cut
from longread.data.tokenizer import Encoded, Tokenizer, load_tokenizer
from longread.errors import UserError, first_line
from longread.inference.origin import Origin
from longread.models.decision import Decision
from longread.models.export import METADATA
from longread.problems import SINGLE_LABEL, ProblemType
from longread.records import fingerprint


@dataclass
class OnnxScorer:
    """Padded batches through one session."""

    session: Any
    positions: int
    token_types: bool
    num_labels: int
    path: Path
    attention: str = "onnx"

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.path.read_bytes(), *self.session.get_providers())

    @property
    def device(self) -> torch.device:
        first = self.session.get_providers()[0]
        return torch.device(next((kind for kind, name in PROVIDERS.items() if name == first), "cpu"))

    def logits(self, encoded: Encoded, tokens: int) -> npt.NDArray[np.float32]:
        """[S, number of labels]. Sorted by length, so that little is padded; at most `tokens` of a batch with padding,

        but for a longer sequence, which is a batch by itself.
        """
        count = len(encoded.lengths)
        found = np.zeros((count, self.num_labels), dtype=np.float32)
        for rows in padded_batches(encoded.lengths, tokens):
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


def padded_batches(lengths: Indices, tokens: int) -> Iterator[Indices]:
    """The sequences sorted by length, cut so that no part exceeds `tokens` when it is padded to its longest."""
    ordered = by_length(np.arange(len(lengths)), lengths)
    begin = 0
    for end, length in enumerate(lengths[ordered].tolist()):
        if end > begin and (end + 1 - begin) * length > tokens:
            yield ordered[begin:end]
            begin = end
    if len(ordered):
        yield ordered[begin:]


@dataclass(frozen=True)
class Graph:
    """An exported file: what computes, and what it tells of the checkpoint that it is from."""

    scorer: OnnxScorer
    tokenizer: Tokenizer
    labels: tuple[str, ...]
    problem_type: ProblemType
    origin: Origin | None
    decision: Decision
    cut: Cut
    num_parameters: int | None  # None: files from before it was told
    int8: bool


# What onnxruntime calls the devices of ours that it may have.
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "mps": "CoreMLExecutionProvider"}


def load_onnx(path: Path, device: str = "auto", threads: int | None = None) -> Graph:
    """UserError for a file that is no graph of `longread export`, for a device that onnxruntime has not, and where the
    extra `onnx` is not installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(f"{path}: needs the extra onnx; pip install 'longread[onnx]'") from error
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3
    providers = _providers(device, onnxruntime.get_available_providers())
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # the library raises its own kinds
        raise UserError(f"{path}: not an ONNX file that onnxruntime reads ({first_line(error)})") from None
    try:
        told = json.loads(session.get_modelmeta().custom_metadata_map[METADATA])
        files, labels = told["tokenizer_files"], tuple(map(str, told["labels"]))
        positions, token_types = int(told["max_length"]), bool(told["token_types"])
        problem: ProblemType = told.get("problem_type", SINGLE_LABEL)  # files from before there were three have none
        origin = Origin.from_json(told["trained_on"])
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
        raise UserError(f"{path}: carries no label names and tokenizer; make it with longread export") from None
    if files is None:
        raise UserError(f"{path}: carries no tokenizer; export a checkpoint that has one")
    wanted = {"input_ids", "attention_mask"} | ({"token_type_ids"} if token_types else set())
    if {tensor.name for tensor in session.get_inputs()} != wanted:
        raise UserError(f"{path}: its inputs are not {', '.join(sorted(wanted))}; make it with longread export")
    if len(set(labels)) < len(labels):
        raise UserError(f"{path}: two labels have the same name; export it again, with a name for each")
    scorer = OnnxScorer(session, positions, token_types, len(labels), path, str(told.get("attention", "onnx")))
    decision = Decision.from_json(told.get("decision"), labels, problem, str(path))
    cut, parameters = Cut.from_json(told.get("truncation"), str(path)), told.get("num_parameters")
    return Graph(scorer, _tokenizer(files), labels, problem, origin, decision, cut, parameters, bool(told.get("int8")))


def _tokenizer(files: Mapping[str, str]) -> Tokenizer:
    """Of the files that a checkpoint would have: they are read in one way alone."""
    with tempfile.TemporaryDirectory(prefix="longread-") as directory:
        for name in files:
            (Path(directory) / Path(name).name).write_text(files[name], encoding="utf-8")
        return load_tokenizer(directory)


def _providers(device: str, there: list[str]) -> list[Any]:
    """What the session may compute with, the first that has an operator wins; the processor has them all."""
    kind, _, number = device.partition(":")
    if kind == "auto":
        return there
    if PROVIDERS.get(kind) not in there:
        raise UserError(f"--device {device}: onnxruntime has no such device here; it has {', '.join(there)}")
    chosen = (PROVIDERS[kind], {"device_id": number}) if number else PROVIDERS[kind]
    return [chosen, *([PROVIDERS["cpu"]] if kind != "cpu" else [])]
