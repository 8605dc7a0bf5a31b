"""Soft weight-sharing for neural network compression: a reproducibility benchmark, and a tool.

``sws.compress``, ``sws.save`` and ``sws.load`` are in :mod:`sws.api`, ``sws.results`` in
:mod:`sws.runs.frame`; they are imported when first used, so that reading a file or printing a
table does not load a deep-learning framework.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    **dict.fromkeys(("compress", "keep_zeros", "load", "save", "settings", "unfold"), "sws.api"),
    "results": "sws.runs.frame",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'sws' has no attribute {name!r}")
