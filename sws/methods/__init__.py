"""Compression methods, one file each, by name.

Every module has a function ``compress(model, batches, images, settings, **surroundings)`` that
returns :class:`sws.compression.Compressed`; ``settings`` is the section of the experiment file that
bears the method's name, ``surroundings`` the fields of :class:`sws.compression.Process`. Importing
this package imports no method, and no deep-learning framework.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sws.compression import Compressed

MODULES: Mapping[str, str] = {
    "soft-weight-sharing": "sws.methods.soft_weight_sharing",
    "soft-weight-sharing-subsampled": "sws.methods.subsampled",
    "deep-compression": "sws.methods.deep_compression",
    "network-surgery": "sws.methods.network_surgery",
    "no-prior": "sws.methods.no_prior",
    "post-hoc-mixture": "sws.methods.post_hoc_mixture",
    "spike-slab": "sws.methods.spike_slab",
}
"""Method → its module. Code hashes follow these names, which no import statement shows."""


def load(method: str) -> Callable[..., Compressed]:
    """A method's ``compress``.

    Raises
    ------
    ValueError
        If there is no such method.
    """
    if method not in MODULES:
        raise ValueError(f"there is no method {method!r}; choose one of {', '.join(MODULES)}")
    return importlib.import_module(MODULES[method]).compress


def tuned_as(method: str) -> str:
    """The method whose tuning trials chose a method's settings: itself, or one that it varies."""
    return "soft-weight-sharing" if method == "soft-weight-sharing-subsampled" else method
