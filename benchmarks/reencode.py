"""Write published networks anew, in the present format, with the numbers that follow from it.

    python benchmarks/reencode.py decoded results/reference/runs

``decoded`` holds what ``sws decode --indexes`` of the program that wrote the files made of them,
one ``<model>_<data>__<method>__<point>__<seed>.safetensors`` for each run's folder. Every file is
read back and must hold the same network, bit for bit. Of ``metrics.json`` the bytes, the rate of
the whole file and the bits of a non-zero change; the rates of the paper's formats must not.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from sws import codec
from sws.codec import rates
from sws.files import write_bytes, write_text
from sws.network import safetensors


def rewrite(source, folder):
    """One run; returns the bytes before and after."""
    network = safetensors.read_quantized(source)
    data = codec.encode(network)
    described = codec.describe(data)
    if described.network != network:
        raise SystemExit(f"{folder}: what was written reads back as another network")
    path = folder / "metrics.json"
    metrics = json.loads(path.read_text(encoding="utf-8"))
    before = metrics["bytes"]["file"]
    found = rates.rates(network, len(data))
    for name in ("nonzero", "han", "huffman"):
        if getattr(found, name) != metrics["cr"][name]:
            raise SystemExit(f"{folder}: the rate {name} has changed")
    parts = described.bytes
    metrics["cr"]["file"] = found.file
    metrics["bytes"] |= parts
    spent = parts["indexes"] + parts["values"]
    metrics["bits_per_nonzero"] = 8 * spent / network.nonzeros
    write_bytes(folder / "model.sws", data)
    write_text(path, json.dumps(metrics, indent=1, allow_nan=False) + "\n")
    return before, len(data)


def main():
    decoded, runs = map(Path, sys.argv[1:])
    total = [0, 0]
    for source in sorted(decoded.glob("*.safetensors")):
        folder = runs.joinpath(*source.stem.split("__"))
        before, after = rewrite(source, folder)
        total[0], total[1] = total[0] + before, total[1] + after
        print(f"{folder}: {before:,} → {after:,} bytes ({after / before:.4f})", flush=True)
    print(f"all: {total[0]:,} → {total[1]:,} bytes ({total[1] / max(1, total[0]):.4f})")


if __name__ == "__main__":
    main()
