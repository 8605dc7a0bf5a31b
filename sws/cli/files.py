"""Commands on compressed files: encode, decode, evaluate, inspect."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sws.errors import InputError, MissingFileError

if TYPE_CHECKING:
    from sws.codec import FileDescription, TensorReport

Model = Annotated[Path, typer.Argument(help="A compressed network, model.sws.")]


def encode(
    network: Annotated[
        Path, typer.Argument(help="Indexes and codebooks, as 'sws decode --indexes' writes them.")
    ],
    model: Annotated[Path, typer.Argument(help="The .sws file to write.")],
) -> None:
    """Compress a quantised network into a .sws file.

    The cheapest coding is chosen for each layer. Encoding what was decoded gives the same bytes.

    \b
    Example:
      sws decode model.sws indexes.safetensors --indexes
      sws encode indexes.safetensors again.sws
    """
    from sws import codec
    from sws.codec import rates
    from sws.network import safetensors

    _check_place(model)
    quantized = safetensors.read_quantized(network)
    size = codec.write(quantized, model)
    print(f"{model}: {size:,} bytes, {rates.dense_bytes(quantized) / size:.1f} times smaller")


def decode(
    model: Model,
    output: Annotated[Path, typer.Argument(help="The .safetensors file to write.")],
    indexes: Annotated[
        bool, typer.Option("--indexes", help="Write indexes and codebooks, not float32 weights.")
    ] = False,
) -> None:
    """Turn a .sws file back into weights.

    Writes a state dict in float32, which safetensors.torch.load_file reads.

    \b
    Example:
      sws decode model.sws weights.safetensors
    """
    from sws import codec
    from sws.network import safetensors

    _check_place(output)
    network = codec.read(model)
    write = safetensors.write_quantized if indexes else safetensors.write_dense
    write(network, output)
    print(f"{output}: {len(network.tensors)} tensors, {network.parameters:,} parameters")


def evaluate(
    model: Model,
    dataset: Annotated[str, typer.Argument(help="Whose test images to use, such as mnist.")],
) -> None:
    """Decode a file and measure its error on test images.

    \b
    Example:
      sws evaluate model.sws mnist
    """
    from sws.data import datasets

    datasets.spec(dataset)
    from sws.study import stages

    error, parameters = stages.evaluate_file(model, dataset)
    size = model.stat().st_size
    print(f"{model}: {error:.2f} % error on {dataset}, {parameters:,} parameters, {size:,} bytes")


def inspect(model: Model) -> None:
    """Show what is in a .sws file, layer by layer.

    \b
    Example:
      sws inspect model.sws
    """
    from sws import codec
    from sws.codec import rates

    data = model.read_bytes()
    try:
        description = codec.describe(data)
    except codec.CorruptFileError as error:
        raise codec.CorruptFileError(f"{model}: {error}") from None
    rates = rates.rates(description.network, len(data))
    print("\n".join(_heading(model, description)))
    print()
    print(_table(description.tensors))
    print()
    parts = {k: v for k, v in description.bytes.items() if k != "file"}
    print("bytes: " + " + ".join(f"{v:,} {k}" for k, v in parts.items()) + f" = {len(data):,}")
    print(
        f"compression rate: {rates.file:.1f} of the whole file; of the weights alone "
        f"{rates.huffman:.1f} (huffman), {rates.han:.1f} (han), {rates.nonzero:.1f} (non-zeros)"
    )


def _check_place(path: Path) -> None:
    """Outputs appear by rename: that needs a folder, and must not hit a device or a pipe."""
    if not path.parent.is_dir():
        raise MissingFileError(f"{path.parent}: there is no such folder; make it first")
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is no ordinary file; name another")


def _heading(model: Path, description: FileDescription) -> list[str]:
    network = description.network
    known = network.architecture
    lines = [f"{model}: " + (f"{known.name}" if known else "a network of no registered kind")]
    if known and known.settings:
        lines[0] += " (" + ", ".join(f"{k} = {v}" for k, v in known.settings.items()) + ")"
    if network.input is not None:
        shape = " × ".join(str(n) for n in network.input.shape)
        lines.append(f"input: {shape}, {len(network.input.classes)} classes")
    sizes = ", ".join(str(len(codebook)) for codebook in network.codebooks)
    lines.append(f"codebooks: {len(network.codebooks)}, of {sizes} values")
    return lines


def _table(tensors: tuple[TensorReport, ...]) -> str:
    head = (
        "tensor",
        "kind",
        "shape",
        "values",
        "non-zero",
        "%",
        "bytes",
        "bits/non-zero",
        "coding",
    )
    rows = [head]
    for report in tensors:
        bits = sum(report.bits.values())
        share = 100 * report.nonzeros / report.weights if report.weights else 0.0
        rows.append(
            (
                report.name,
                report.kind,
                "×".join(str(n) for n in report.shape) or "scalar",
                f"{report.weights:,}",
                f"{report.nonzeros:,}",
                f"{share:.2f}",
                f"{bits / 8:,.0f}",
                f"{bits / report.nonzeros:.2f}" if report.nonzeros else "–",
                report.coding,
            )
        )
    widths = [max(len(row[k]) for row in rows) for k in range(len(HEAD))]
    left = {0, 1, 2, 8}
    return "\n".join(
        "  ".join(
            cell.ljust(w) if k in left else cell.rjust(w)
            for k, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


HEAD = ("tensor", "kind", "shape", "values", "non-zero", "%", "bytes", "bits/non-zero", "coding")
COMMANDS = (encode, decode, evaluate, inspect)
