"""The ISO/IEC 15938-17 neural-network coder (NNC) on our networks, by way of ``nncodec``.

``nncodec`` wants its own versions of what we use too, and builds from source. It therefore lives in
an environment of its own, whose Python runs this file as a script. What follows the guard at the
end runs there, and nothing here may import the rest of this package.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sws.network import QuantizedNetwork

MINUTES = 60


class CoderError(RuntimeError):
    """The other environment could not do it; the message says why."""


def bitstream_bytes(networks: Sequence[QuantizedNetwork], python: Path) -> list[int]:
    """Bytes of the NNC bitstream of each network's indexes; decoded there, and compared.

    Parameters
    ----------
    python : the interpreter of an environment that has ``nncodec``.

    Raises
    ------
    CoderError
        If it does not run, or what it decodes differs.
    """
    with tempfile.TemporaryDirectory(prefix="sws-nnc-") as folder:
        for number, network in enumerate(networks):
            levels = {
                str(i): signed_ranks(network.codebooks[t.codebook])[t.indexes]
                for i, t in enumerate(network.quantized)
            }
            np.savez(Path(folder, f"{number:05}.npz"), **levels)
        # -I: neither this package's modules nor the caller's PYTHONPATH may shadow theirs
        command = [str(python), "-I", str(Path(__file__).resolve()), folder]
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=60 * MINUTES
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CoderError(f"{python}: cannot run nncodec ({error})") from None
        if done.returncode:
            last = (done.stderr.strip() or f"status {done.returncode}").splitlines()[-1]
            raise CoderError(
                f"{python}: cannot run nncodec ({last}); see 'Is it the coder?' in docs/costs.md "
                "for how to install it, or leave it out"
            )
        sizes = json.loads(Path(folder, "sizes.json").read_text(encoding="utf-8"))
    return [int(size) for size in sizes]


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

    sizes = []
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as file:
            levels = {name: np.ascontiguousarray(file[name]) for name in file.files}
        stream = encode(dict(levels), args={"verbose": False, "results": str(folder)})
        decoded = decode(stream, args={"verbose": False})
        if not all(np.array_equal(decoded[name], level) for name, level in levels.items()):
            raise SystemExit(f"{path.name}: decodes to something else")
        sizes.append(len(stream))
    (folder / "sizes.json").write_text(json.dumps(sizes), encoding="utf-8")


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
