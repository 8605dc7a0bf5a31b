"""The ISO/IEC 15938-17 neural-network coder (NNC) on our networks, by way of ``nncodec``.

``nncodec`` needs other versions of our dependencies, and builds from source. It therefore lives in
an environment of its own, whose Python runs this file as a script: nothing here may import the rest
of this package at run time.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sws.errors import SwsError

if TYPE_CHECKING:
    from sws.network.quantized import QuantizedNetwork

SIZES = "sizes.json"
"""What the script has done so far: no file, and it could not begin."""
SECONDS = 600
"""For each network, after which ``nncodec`` is taken to hang; ours take less than one."""


class CoderError(SwsError, RuntimeError):
    """The other environment could not do it; the message says why."""


def bitstream_bytes(networks: Mapping[str, QuantizedNetwork], python: Path) -> dict[str, int]:
    """Bytes of the NNC bitstream of each network's indexes; decoded there, and compared.

    Parameters
    ----------
    networks : by a name that errors tell.
    python : the interpreter of an environment that has ``nncodec``.

    Raises
    ------
    CoderError
        If it does not run, or what it decodes differs.
    """
    # not resolved: an environment is known by its link to the interpreter
    python = Path(python).expanduser().absolute()
    with tempfile.TemporaryDirectory(prefix="sws-nnc-") as folder:
        for number, network in enumerate(networks.values()):
            levels = {
                str(i): signed_ranks(network.codebooks[t.codebook])[t.indexes]
                for i, t in enumerate(network.quantized)
            }
            np.savez(Path(folder, f"{number:05}.npz"), **levels)
        # -I: neither this package's modules nor the caller's PYTHONPATH may shadow theirs
        command = [str(python), "-I", str(Path(__file__).resolve()), folder]
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, encoding="utf-8", errors="replace",
                timeout=SECONDS * len(networks),
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise CoderError(f"nncodec did not end within {error.timeout} s") from None
        except OSError as error:
            raise CoderError(f"{python}: cannot be run ({error.strerror})") from None
        report = Path(folder, SIZES)
        sizes = json.loads(report.read_text(encoding="utf-8")) if report.exists() else None
    said = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
    if sizes is None:
        raise CoderError(
            f"{python}: cannot run nncodec ({said}); see 'Is it the coder?' in docs/costs.md for "
            "how to install it, or leave it out"
        )
    if len(sizes) < len(networks):
        name = list(networks)[len(sizes)]
        if done.returncode:
            raise CoderError(f"{name}: nncodec failed (status {done.returncode}: {said})")
        raise CoderError(f"{name}: nncodec decodes something else than it was given")
    return dict(zip(networks, sizes, strict=True))


def signed_ranks(codebook: np.ndarray) -> np.ndarray:
    """(K,) int32 level of each entry: 0 for 0, ±1 for the next larger and smaller value, and so on.

    The coder writes whether a level is 0, its sign, and then its magnitude bit by bit.
    """
    order = np.argsort(codebook, kind="stable")
    ranks = np.empty(len(codebook), dtype=np.int32)
    ranks[order] = np.arange(len(codebook))
    return ranks - ranks[0]  # entry 0 is 0


def _main(folder: Path) -> None:
    from nncodec.nn import decode, encode

    sizes: list[int] = []
    (folder / SIZES).write_text("[]", encoding="utf-8")
    for path in sorted(folder.glob("*.npz")):
        with np.load(path, allow_pickle=False) as file:
            levels = {name: np.ascontiguousarray(file[name]) for name in file.files}
        stream = encode(dict(levels), args={"verbose": False, "results": str(folder)})
        decoded = decode(stream, args={"verbose": False})
        if not all(np.array_equal(decoded[name], level) for name, level in levels.items()):
            return
        sizes.append(len(stream))
        (folder / SIZES).write_text(json.dumps(sizes), encoding="utf-8")


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
