"""Soft weight-sharing for neural network compression: a reproducibility benchmark, and a tool.

``sws.compress``, ``sws.save`` and ``sws.load`` are in :mod:`sws.api`; they are imported when first
used, so that reading a file or printing a table does not load a deep-learning framework.
"""

from __future__ import annotations

from typing import Any

_API = ("compress", "load", "save", "settings")

__all__ = list(_API)


def __getattr__(name: str) -> Any:
    if name in _API:
        from sws import api

        return getattr(api, name)
    raise AttributeError(f"module 'sws' has no attribute {name!r}")
