"""A classifier as a graph for other programs: ONNX for onnxruntime, a torch.export archive for AOT compilers.

One padded graph with open numbers of sequences and tokens, inputs `input_ids`, `attention_mask` and (for models that
distinguish the texts of a pair) `token_type_ids`, output `logits`. The ONNX file carries the tokenizer, the label
names and the longest length in its metadata, so that it predicts by itself.
"""

from __future__ import annotations

import io
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longread.data.tokenizer import load_tokenizer
from longread.errors import UserError
from longread.models.classifier import Classifier
from longread.models.padded import PaddedClassifier
from longread.records import write_atomically

FORMATS = (".onnx", ".pt2")
METADATA = "longread"  # key of the ONNX file's metadata


def export(
    model: Classifier, path: str | Path, *, int8: bool = False, trained_on: Mapping[str, Any] | None = None
) -> Path:
    """Writes `path`: .onnx, or .pt2 for a `torch.export` archive.

    int8: the weights of linear layers in eight bits, their inputs quantized as they come (ONNX alone; answers change a
    little). trained_on: what is told to whoever predicts with the file. UserError for another ending, a model
    without a padded form, and where the extra `onnx` is not installed.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise UserError(f"{path}: the format is read from the ending; write NAME.onnx, or NAME.pt2 for torch.export")
    if int8 and path.suffix != ".onnx":
        raise UserError(f"--int8: only for ONNX; write to {path.with_suffix('.onnx')}")
    with torch.random.fork_rng(devices=[]):
        padded = PaddedClassifier(model)
    if path.suffix == ".pt2":
        buffer = io.BytesIO()
        torch.export.save(traced(padded), buffer)
        write_atomically(path, buffer.getvalue())
        return path
    write_atomically(path, _onnx_bytes(padded, metadata(model, int8, trained_on), int8))
    return path


def example(model: Classifier) -> tuple[Tensor, ...]:
    """Inputs to trace with. As long as can be: a size that is 1 in the example, such as a number of blocks, is taken

    for a constant. Nothing is computed with them.
    """
    ids = torch.zeros(2, max(2, model.config.max_length), dtype=torch.long)
    inputs = (ids, torch.ones_like(ids))
    return (*inputs, torch.zeros_like(ids)) if model.config.type_vocab_size > 1 else inputs


def traced(padded: PaddedClassifier) -> torch.export.ExportedProgram:
    inputs = example(padded.model)
    with torch.no_grad():
        return torch.export.export(padded, inputs, dynamic_shapes=_open(inputs))


def _open(inputs: tuple[Tensor, ...]) -> tuple[dict[int, Any], ...]:
    return tuple({0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC} for _ in inputs)


def metadata(model: Classifier, int8: bool, trained_on: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a reader of the file needs beside the graph."""
    config = model.config
    tokenizer = load_tokenizer(model.tokenizer_file) if model.tokenizer_file else None
    token_types = config.type_vocab_size > 1
    return {
        "attention": config.attention,
        "labels": list(config.label_names or (f"LABEL_{i}" for i in range(config.num_labels))),
        "problem_type": config.problem_type,
        "max_length": config.max_length,
        "token_types": token_types,
        "int8": int8,
        "trained_on": trained_on,
        "decision": model.decision.to_json() or None,
        "truncation": model.cut.to_json() or None,
        "num_parameters": model.num_parameters,
        "tokenizer_files": tokenizer and tokenizer.files(tokenizer.limit(config.max_length), token_types),
    }


def _onnx_bytes(padded: PaddedClassifier, described: dict[str, Any], int8: bool) -> bytes:
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError("export to ONNX needs the extra onnx; pip install 'longread[onnx]'") from error
    inputs = example(padded.model)
    names = ["input_ids", "attention_mask", "token_type_ids"][: len(inputs)]
    with _quiet():
        program = torch.onnx.export(
            padded,
            inputs,
            dynamo=True,
            dynamic_shapes=_open(inputs),
            input_names=names,
            output_names=["logits"],
            verbose=False,
        )
    assert program is not None
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "model.onnx"
        program.save(str(file))
        if int8:
            file = _quantized(file)
        graph = onnx.load(str(file))
    entry = graph.metadata_props.add()
    entry.key, entry.value = METADATA, json.dumps(described, ensure_ascii=False)
    return graph.SerializeToString()  # type: ignore[no-any-return]


def _quantized(file: Path) -> Path:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    target = file.with_name("int8.onnx")
    with _quiet():
        # Attention's products of two activations stay in float32: only products with a stored weight gain from int8.
        options = {"MatMulConstBOnly": True}
        quantize_dynamic(str(file), str(target), weight_type=QuantType.QInt8, extra_options=options,
                         op_types_to_quantize=["MatMul", "Gemm"])  # fmt: skip
    return target


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells its steps on stdout and by loggers; what goes wrong it raises."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
