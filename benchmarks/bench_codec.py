"""Bytes and processor seconds of our coder and of ISO/IEC 15938-17 on the same index maps.

    python benchmarks/bench_codec.py [--nncodec nnc/bin/python] [files …]

One run, one core, whatever else the machine does: ratios are what to read. Ours are the bytes of
indexes, values and codebooks, and the seconds of the whole file; of several rounds the fastest.
xz and zstd get the plain map of indexes and the codebooks.
"""

import argparse
import json
import lzma
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import zstandard  # noqa: E402

from sws import codec  # noqa: E402
from sws.measure.coders import index_map  # noqa: E402
from sws.measure.nncodec import signed_ranks  # noqa: E402

RUNS = ROOT / "results" / "reference" / "runs"
FILES = (
    "lenet-300-100_mnist/soft-weight-sharing/main/seed-1",
    "lenet-5-caffe_mnist/spike-slab/main/seed-1",
    "wrn-16-4_cifar-10/soft-weight-sharing/main/seed-1",
    "wrn-16-4_cifar-10/soft-weight-sharing/accurate/seed-1",
    "vgg-16_cifar-10/soft-weight-sharing/main/seed-1",
)
THEIRS = """
import json, sys, time
import numpy as np  # noqa: E402
from nncodec.nn import decode, encode
folder, rounds = sys.argv[1], int(sys.argv[2])
with np.load(folder + "/levels.npz") as file:
    levels = {name: np.ascontiguousarray(file[name]) for name in file.files}
spent = [[], []]
for _ in range(rounds):
    start = time.process_time()
    stream = encode(dict(levels), args={"verbose": False, "results": folder})
    middle = time.process_time()
    decoded = decode(stream, args={"verbose": False})
    spent[0].append(middle - start), spent[1].append(time.process_time() - middle)
    assert all(np.array_equal(decoded[name], level) for name, level in levels.items())
print("RESULT", json.dumps([len(stream), min(spent[0]), min(spent[1])]))
"""


def seconds(function, rounds):
    """The fewest processor seconds of several calls, and what the last one gave."""
    fewest = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        found = function()
        fewest = min(fewest, time.process_time() - start)
    return fewest, found


def theirs(network, python, rounds):
    """Bytes, seconds to encode and to decode of the ISO coder."""
    levels = {
        str(k): signed_ranks(network.codebooks[t.codebook])[t.indexes]
        for k, t in enumerate(network.quantized)
    }
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder, "levels.npz"), **levels)
        command = [python, "-I", "-c", THEIRS, folder, str(rounds)]
        said = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=True)
    line = next(line for line in said.stdout.splitlines() if line.startswith("RESULT"))
    return json.loads(line.removeprefix("RESULT"))


def row(path, python, rounds):
    """One line of the table."""
    data = path.read_bytes()
    network = codec.decode(data)
    encoding, data = seconds(lambda: codec.encode(network), rounds)
    decoding, _ = seconds(lambda: codec.decode(data), rounds)
    parts = codec.describe(data).bytes
    books = sum(book.nbytes for book in network.codebooks)
    dense = index_map(network)
    xz = books + len(lzma.compress(dense, preset=9 | lzma.PRESET_EXTREME))
    zstd = books + len(zstandard.ZstdCompressor(level=22).compress(dense))
    ours = parts["indexes"] + parts["values"] + parts["codebook"]
    cells = [f"{ours:,}", f"{encoding:.3f} / {decoding:.3f}"]
    if python:
        size, write, read = theirs(network, python, rounds)
        cells += [f"{size:,}", f"{write:.3f} / {read:.3f}"]
        cells += [f"{encoding / write:.1f} / {decoding / read:.1f}"]
    else:
        cells += ["–"] * 3
    name = "/".join(path.parent.parts[-4:])
    return f"| {name} | " + " | ".join([*cells, f"{xz:,}", f"{zstd:,}"]) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--nncodec", help="the interpreter of an environment that has nncodec")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    files = chosen.files or [RUNS / name / "model.sws" for name in FILES]
    print("| file | ours | write / read, s | ISO 15938-17 | write / read, s | ratios | xz | zstd |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for path in files:
        print(row(path, chosen.nncodec, chosen.rounds), flush=True)


if __name__ == "__main__":
    main()
