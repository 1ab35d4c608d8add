"""Efficient-attention transformers for text classification: train, fine-tune, measure, compare, serve."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Name -> room. Read on first use, so that `import longread` and `longread --help` load no torch.
_ROOMS = {
    "ATTENTIONS": "longread.attention",
    "TASKS": "longread.data.tasks",
    "RunConfig": "longread.config",
    "UserError": "longread.errors",
    "build": "longread.models.classifier",
    "from_pretrained": "longread.models.checkpoint",
    "save_pretrained": "longread.models.checkpoint",
    "load": "longread.inference.predictor",
    "train": "longread.training.run",
    "distill": "longread.training.distill",
    "pretrain": "longread.training.pretrain",
    "evaluate": "longread.inference.run",
    "compare": "longread.study.compare",
    "convert": "longread.models.convert",
    "tune_allocator": "longread.system.allocator",
    "LongreadClassifier": "longread.sklearn",
    "LongreadRegressor": "longread.sklearn",
}
__all__ = ["__version__", *_ROOMS]


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'longread' has no attribute {name!r}")
    return getattr(importlib.import_module(_ROOMS[name]), name)
