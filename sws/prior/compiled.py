"""numba, or None where it is missing; what it compiles then runs as it stands, slowly."""

from __future__ import annotations

import os

# numba starts a thread per core however many it is then told to use, and idle ones spin: let it
# have those that OpenMP may have
if "OMP_NUM_THREADS" in os.environ:
    os.environ.setdefault("NUMBA_NUM_THREADS", os.environ["OMP_NUM_THREADS"])

try:
    import numba
except ImportError:  # pragma: no cover - numba is a declared dependency; this is the slow way home
    numba = None


def compiled(function):
    """Compile for the types that it is called with, and keep the result on disk."""
    return function if numba is None else numba.njit(cache=True, nogil=True)(function)
