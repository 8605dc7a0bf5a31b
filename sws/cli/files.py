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

    Encoding what was decoded gives the same bytes.

    \b
    Example:
      sws decode model.sws indexes.safetensors --indexes
      sws encode indexes.safetensors again.sws
    """
    from sws import codec
    from sws.codec import rates
    from sws.network import safetensors

    _check_place(model, network)
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

    _check_place(output, model)
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
    from sws import codec
    from sws.data import datasets

    spec = datasets.spec(dataset)
    stated = codec.read(model).input
    if stated is not None:
        for what in ("mean", "std", "classes"):
            if tuple(getattr(stated, what)) != tuple(getattr(spec, what)):
                raise InputError(f"{model}: was made for images of another {what} than {dataset}'s")
    from sws.study import stages

    error, parameters = stages.evaluate_file(model, dataset)
    size = model.stat().st_size
    print(f"{model}: {error:.2f} % error on {dataset}, {parameters:,} parameters, {size:,} bytes")


def inspect(model: Model) -> None:
    """Show what is in a .sws file, layer by layer, and its costs.

    \b
    Example:
      sws inspect model.sws
    """
    from sws import codec
    from sws.codec import rates

    try:
        data = codec.read_file(model)
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


def _check_place(path: Path, source: Path) -> None:
    """Outputs appear by rename: that needs a folder, and must not hit a device or a pipe.

    A link at the output's place is replaced, not followed; one to the source is the source.
    """
    if path.exists() and source.exists() and path.samefile(source):
        raise InputError(f"{path}: is the file to read; name another")
    if not path.parent.is_dir():
        raise MissingFileError(f"{path.parent}: there is no such folder; make it first")
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is no ordinary file; name another")


def _heading(model: Path, description: FileDescription) -> list[str]:
    from sws.codec.errors import shown

    network = description.network
    known = network.architecture
    lines = [known.name if known else "a network of no registered kind"]
    if known and known.settings:
        lines[0] += " (" + ", ".join(f"{k} = {v}" for k, v in known.settings.items()) + ")"
    if network.input is not None:
        shape = " × ".join(str(n) for n in network.input.shape)
        lines.append(f"input: {shape}, {len(network.input.classes)} classes")
    sizes = ", ".join(str(len(codebook)) for codebook in network.codebooks)
    lines.append(f"codebooks: {len(network.codebooks)}, of {sizes} values")
    lines += [f"{key}: {text}" for key, text in network.notes.items()]
    # what the file says is shown with care; the path is what the user typed
    first, *others = (shown(line, LONGEST_LINE) for line in lines)
    return [f"{model}: {first}", *others]


def _table(tensors: tuple[TensorReport, ...]) -> str:
    from sws.codec.errors import shown

    rows = [HEAD]
    for report in tensors:
        bits = {part: report.bits.get(part, 0.0) for part in ("indexes", "values", "raw")}
        total = sum(bits.values())
        share = 100 * report.nonzeros / report.weights if report.weights else 0.0
        rows.append(
            (
                shown(report.name, LONGEST_NAME),
                report.kind,
                shown("×".join(str(n) for n in report.shape) or "scalar", LONGEST_NAME),
                report.coding,
                f"{report.weights:,}",
                f"{report.nonzeros:,}",
                f"{share:.2f}",
                *(f"{spent / 8:,.0f}" if spent else "–" for spent in bits.values()),
                f"{total / report.nonzeros:.2f}" if report.nonzeros else "–",
            )
        )
    widths = [max(len(row[k]) for row in rows) for k in range(len(HEAD))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if k < 4 else cell.rjust(w)
            for k, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


HEAD = ("tensor", "kind", "shape", "coding", "values", "non-zero", "%")
HEAD += ("index bytes", "value bytes", "raw bytes", "bits/non-zero")
LONGEST_NAME, LONGEST_LINE = 60, 400
COMMANDS = (encode, decode, evaluate, inspect)
