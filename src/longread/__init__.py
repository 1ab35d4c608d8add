"""Efficient-attention transformers for text classification: train, fine-tune, measure, compare, serve."""

from __future__ import annotations

import importlib
import sys
import types
from typing import Any

__version__ = "0.1.0"

# Name -> room. Read on first use, so that `import longread` and `longread --help` load no torch.
_ROOMS = {
    "ATTENTIONS": "longread.attention",
    "TASKS": "longread.tasks",
    "RunConfig": "longread.config",
    "UserError": "longread.errors",
    "build": "longread.encoder",
    "from_pretrained": "longread.checkpoint",
    "save_pretrained": "longread.checkpoint",
    "load": "longread.classifier",
    "train": "longread.train",
    "evaluate": "longread.classifier",
    "compare": "longread.compare",
    "convert": "longread.convert",
}
__all__ = ["__version__", *_ROOMS]


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'longread' has no attribute {name!r}")
    return getattr(importlib.import_module(_ROOMS[name]), name)


class _Package(types.ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        # Importing longread.train makes the module an attribute of the package; the public name is the function.
        if not (name in _ROOMS and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
