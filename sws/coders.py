"""Several coders on the same quantised networks: what is due to the coder, not to the method.

All are given the weights alone, as codebooks and indexes; biases, which no coder here treats
specially, and headers are left out on all sides. The general-purpose ones see the indexes as one
map of bytes, tensor after tensor, as somebody would who has never heard of sparsity.
"""

from __future__ import annotations

import lzma
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import zstandard

from sws import accounting, codec
from sws.codec.layers import index_dtype
from sws.network import QuantizedNetwork
from sws.runs import Case, ResultsError, pair_title, read_runs
from sws.tables import number, to_csv, write_texts

COLUMNS = ("model", "dataset", "method", "point", "coder", "seeds", "bytes", "bytes_sd", "ratio")
LEVEL = 22  # zstd's highest
CODERS: Mapping[str, str] = {
    "sws": "this project's file, the weights' share of it",
    "huffman": "Deep Compression's scheme with Huffman codes on the indexes too, tables counted",
    "han": "the same with indexes of fixed width, tables not counted",
    "xz": "xz -9e on the map of indexes, and the codebooks as they are",
    "zstd": f"zstd -{LEVEL} --ultra, likewise",
}
"""Coder → what it is."""
Row = dict[str, Any]


def index_map(network: QuantizedNetwork) -> bytes:
    """All indexes, dense, tensor after tensor, in the smallest unsigned type of each."""
    return b"".join(
        np.ascontiguousarray(t.indexes, index_dtype(network.codebooks[t.codebook].size)).tobytes()
        for t in network.quantized
    )


def weight_bytes(data: bytes) -> dict[str, int]:
    """Bytes of a network's weights under every coder.

    Parameters
    ----------
    data : its ``.sws`` file.
    """
    described = codec.describe(data)
    network, parts = described.network, described.bytes
    codebooks = sum(codebook.nbytes for codebook in network.codebooks)
    layers = [accounting.csr_bits(network, tensor) for tensor in network.quantized]
    dense = index_map(network)
    packed: dict[str, Callable[[bytes], bytes]] = {
        "xz": lambda text: lzma.compress(text, preset=9 | lzma.PRESET_EXTREME),
        "zstd": zstandard.ZstdCompressor(level=LEVEL).compress,
    }
    return {
        "sws": sum(parts[name] for name in ("indexes", "values", "codebook", "tables")),
        "huffman": codebooks + -(-sum(layer.huffman for layer in layers) // 8),
        "han": codebooks + -(-sum(layer.han for layer in layers) // 8),
        **{name: codebooks + len(pack(dense)) for name, pack in packed.items()},
    }


def rows(results: Path, cases: Sequence[Case], seeds: Sequence[int]) -> list[Row]:
    """Every coder on every case that has run: means over the seeds.

    Raises
    ------
    ResultsError
        If a file of a finished run is missing or damaged.
    """
    found = []
    for case in cases:
        sizes, weights = [], 0
        for run in read_runs(results, case, seeds):
            path = run.folder / "model.sws"
            try:
                sizes.append(weight_bytes(path.read_bytes()))
            except (OSError, codec.CorruptFileError) as error:
                raise ResultsError(
                    f"{path}: cannot be read ({error}); delete the folder and run it again"
                ) from None
            weights = int(run.metrics["weights"])
        for coder in CODERS if sizes else ():
            listed = [float(s[coder]) for s in sizes]
            row = dict.fromkeys(COLUMNS)
            row |= {"model": case.model, "dataset": case.dataset, "method": case.method}
            row |= {"point": case.point, "coder": coder, "seeds": len(listed)}
            row["bytes"] = fmean(listed)
            row["bytes_sd"] = stdev(listed) if len(listed) > 1 else None
            row["ratio"] = fmean(4 * weights / size for size in listed)
            found.append(row)
    return found


def to_markdown(table: Sequence[Row]) -> str:
    """For people: a block for each pair, a column for each coder."""
    lines = ["# Coders on the same networks", ""]
    for pair in dict.fromkeys((row["model"], row["dataset"]) for row in table):
        here = [row for row in table if (row["model"], row["dataset"]) == pair]
        heads = [f"{coder}, bytes" for coder in CODERS]
        lines += [f"## {pair_title(pair)}", "", "| method | seeds | " + " | ".join(heads) + " |"]
        lines += ["|---|" + "---:|" * (1 + len(CODERS))]
        for key in dict.fromkeys((row["method"], row["point"]) for row in here):
            own = {r["coder"]: r for r in here if (r["method"], r["point"]) == key}
            name = key[0] + ("" if key[1] == "main" else f", {key[1]}")
            cells = [number(r["bytes"], r["bytes_sd"], 0) for r in own.values()]
            lines.append(f"| {name} | {own['sws']['seeds']} | " + " | ".join(cells) + " |")
        lines.append("")
    lines += [f"- {coder}: {what}" for coder, what in CODERS.items()]
    lines += ["", "Weights only: biases and headers are left out on all sides.", ""]
    return "\n".join(lines)


def build(results: Path, output: Path, cases: Sequence[Case], seeds: Sequence[int]) -> list[Path]:
    """Write ``coders.csv``, ``coders.md`` and ``coders.html``."""
    table = rows(results, cases, seeds)
    if not table:
        raise ResultsError(f"{results}: no run of these pairs and seeds to code")
    texts = {"coders.csv": to_csv(table, COLUMNS), "coders.md": to_markdown(table)}
    return write_texts(Path(output), texts)
