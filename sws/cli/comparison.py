"""Commands that compare methods: profile, costs, coders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sws.cli.arguments import ConfigFiles, Pairs, Results, Seeds, configuration, results_in
from sws.cli.study import Output, TargetName, chosen_target, points_of
from sws.errors import MissingFileError


def profile(
    model: Annotated[Path, typer.Argument(help="A compressed network, model.sws.")],
    output: Annotated[Path, typer.Argument(help="The JSON file to write.")],
    seconds: Annotated[float, typer.Option(min=0, help="To spend on each latency.")] = 1.0,
) -> None:
    """Measure what using a compressed network costs.

    Bytes in memory, time to decode, latency dense and sparse at batches of 1 and 256, and the
    multiply-adds that are left. On the CPU; nothing else should run meanwhile.

    \b
    Example:
      sws profile model.sws profile.json
    """
    if not model.is_file():
        raise MissingFileError(f"{model}: there is no such file")
    from sws.measure import inference

    print(inference.build(model, output, seconds))


def costs(
    target: TargetName = "baselines",
    results: Results = None,
    output: Output = None,
    pairs: Pairs = None,
    seeds: Seeds = None,
    config: ConfigFiles = None,
) -> None:
    """Write the table of what training and inference cost.

    From the runs of a target and from what 'sws profile' wrote about their files.

    \b
    Example:
      sws costs baselines --seeds 1,2,3
    """
    from sws.report import costs as module

    _write(module, target, results, output, pairs, seeds, config, main_only=False)


def coders(
    target: TargetName = "baselines",
    results: Results = None,
    output: Output = None,
    pairs: Pairs = None,
    seeds: Seeds = None,
    config: ConfigFiles = None,
    nncodec: Annotated[
        Path | None,
        typer.Option(
            envvar="SWS_NNCODEC",
            help="Python of an environment that has nncodec (docs/costs.md), to run it as well; "
            "default as configured.",
        ),
    ] = None,
) -> None:
    """Write the table of several coders on the same networks.

    Our file, the scheme of Han et al., xz, zstd and, if there is one, the ISO coder, on the main
    point of every method.

    \b
    Example:
      sws coders baselines --seeds 1
    """
    from sws.report import coders as module
    from sws.study.plan import find_config

    if nncodec is None and (config or find_config()):
        nncodec = configuration(config).nncodec
    _write(module, target, results, output, pairs, seeds, config, main_only=True, nncodec=nncodec)


def _write(module, target, results, output, pairs, seeds, config, main_only, **more) -> None:
    from sws.runs.records import cases

    chosen, results = chosen_target(target, config, pairs, seeds), results_in(results, config)
    points = points_of(chosen)
    wanted = [case for case in cases(points, points) if not main_only or case.point == "main"]
    folder = output or results / "tables" / target
    for path in module.build(results, folder, wanted, chosen.seeds, **more):
        print(path)


COMMANDS = (profile, costs, coders)
