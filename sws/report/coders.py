"""Several coders on the same quantised networks: what is due to the coder, not to the method.

All are given the weights alone, as codebooks and indexes; biases, which no coder here treats
specially, and headers are left out (but for the headers inside an NNC bitstream). The
general-purpose ones see the indexes as one map of bytes, tensor after tensor, as somebody would who
has never heard of sparsity.
"""

from __future__ import annotations

import lzma
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import zstandard

from sws import codec
from sws.codec import rates
from sws.network.quantized import QuantizedNetwork, index_dtype
from sws.report.names import pair_title
from sws.report.tables import number, to_csv, write_texts
from sws.runs.records import Case, ResultsError, read_runs

COLUMNS = ("model", "dataset", "method", "point", "coder", "seeds", "bytes", "bytes_sd", "ratio")
LEVEL = 22  # zstd's highest
CODERS: Mapping[str, str] = {
    "sws": "this project's file, the weights' share of it",
    "huffman": "Deep Compression's scheme with Huffman codes on the indexes too, tables counted",
    "han": "the same with indexes of fixed width, tables not counted",
    "xz": "xz -9e on the map of indexes, and the codebooks as they are",
    "zstd": f"zstd -{LEVEL} --ultra, likewise",
    "nnc": "ISO/IEC 15938-17 (nncodec) on the indexes, in the order of the values they stand for, "
    "with its own headers; and the codebooks as they are",
}
"""Coder → what it is."""
Row = dict[str, Any]


def index_map(network: QuantizedNetwork) -> bytes:
    """All indexes, dense, tensor after tensor, in the smallest unsigned type of each."""
    return b"".join(
        np.ascontiguousarray(t.indexes, index_dtype(network.codebooks[t.codebook].size)).tobytes()
        for t in network.quantized
    )


def weight_bytes(described: codec.FileDescription) -> dict[str, int]:
    """Bytes of a network's weights under every coder that runs here.

    Parameters
    ----------
    described : its ``.sws`` file, as :func:`sws.codec.describe` reads it.
    """
    network, parts = described.network, described.bytes
    codebooks = _codebooks(network)
    layers = [rates.csr_bits(network, tensor) for tensor in network.quantized]
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


def _codebooks(network: QuantizedNetwork) -> int:
    """Bytes of the codebooks as they are."""
    return sum(codebook.nbytes for codebook in network.codebooks)


def rows(
    results: Path, cases: Sequence[Case], seeds: Sequence[int], nncodec: Path | None = None
) -> list[Row]:
    """Every coder on every case that has run: means over the seeds.

    Parameters
    ----------
    nncodec : Python of an environment that has ``nncodec``; without it that coder is left out.

    Raises
    ------
    ResultsError
        If a file of a finished run is missing or damaged.
    sws.measure.nncodec.CoderError
        If that Python cannot run ``nncodec``.
    """
    sizes = {case: _sizes(results, case, seeds) for case in cases}
    every = {name: one for listed in sizes.values() for name, one in listed.items()}
    if nncodec is not None and every:
        networks = {name: network for name, (network, _) in every.items()}
        streams = nncodec.bitstream_bytes(networks, nncodec)  # one call: it starts slowly
        for name, (network, size) in every.items():
            size["nnc"] = _codebooks(network) + streams[name]
    found = []
    for case, files in sizes.items():
        listed = list(files.values())
        for coder in listed[0][1] if listed else ():
            spent = [float(size[coder]) for _, size in listed]
            row = dict.fromkeys(COLUMNS)
            row |= {"model": case.model, "dataset": case.dataset, "method": case.method}
            row |= {"point": case.point, "coder": coder, "seeds": len(spent)}
            row["bytes"] = fmean(spent)
            row["bytes_sd"] = stdev(spent) if len(spent) > 1 else None
            row["ratio"] = fmean(4 * network.weights / size[coder] for network, size in listed)
            found.append(row)
    return found


def _sizes(
    results: Path, case: Case, seeds: Sequence[int]
) -> dict[str, tuple[QuantizedNetwork, dict[str, int]]]:
    """By path: a file's network, and its weights' bytes under every coder that runs here."""
    found = {}
    for run in read_runs(results, case, seeds):
        path = run.folder / "model.sws"
        try:
            described = codec.describe(path.read_bytes())
            found[str(path)] = described.network, weight_bytes(described)
        except (OSError, codec.CorruptFileError) as error:
            raise ResultsError(
                f"{path}: cannot be read ({error}); delete the folder and run it again"
            ) from None
    return found


def to_markdown(table: Sequence[Row]) -> str:
    """For people: a block for each pair, a column for each coder."""
    lines = ["# Coders on the same networks", ""]
    for pair in dict.fromkeys((row["model"], row["dataset"]) for row in table):
        here = [row for row in table if (row["model"], row["dataset"]) == pair]
        coders = list(dict.fromkeys(row["coder"] for row in here))
        heads = [f"{coder}, bytes" for coder in coders]
        lines += [f"## {pair_title(pair)}", "", "| method | seeds | " + " | ".join(heads) + " |"]
        lines += ["|---|" + "---:|" * (1 + len(coders))]
        for key in dict.fromkeys((row["method"], row["point"]) for row in here):
            own = {r["coder"]: r for r in here if (r["method"], r["point"]) == key}
            name = key[0] + ("" if key[1] == "main" else f", {key[1]}")
            cells = [number(r["bytes"], r["bytes_sd"], 0) for r in own.values()]
            lines.append(f"| {name} | {own['sws']['seeds']} | " + " | ".join(cells) + " |")
        lines.append("")
    used = {row["coder"] for row in table}
    lines += [f"- {coder}: {what}" for coder, what in CODERS.items() if coder in used]
    lines += ["", "Weights only: biases are left out on all sides, headers but in NNC.", ""]
    return "\n".join(lines)


def build(
    results: Path,
    output: Path,
    cases: Sequence[Case],
    seeds: Sequence[int],
    nncodec: Path | None = None,
) -> list[Path]:
    """Write ``coders.csv``, ``coders.md`` and ``coders.html``."""
    table = rows(results, cases, seeds, nncodec)
    if not table:
        raise ResultsError(f"{results}: no run of these pairs and seeds to code")
    texts = {"coders.csv": to_csv(table, COLUMNS), "coders.md": to_markdown(table)}
    return write_texts(Path(output), texts)
