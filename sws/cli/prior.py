"""Commands of the study of the prior's cost: prior-cost, prior-study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sws.cli.arguments import Results, results_in
from sws.cli.study import Output
from sws.errors import InputError


def prior_cost(
    case: Annotated[str, typer.Argument(help="A network, or vgg-16-imagenet.")],
    estimator: Annotated[
        str, typer.Argument(help="tabulated, exact, broadcast, subsampled-10000.")
    ],
    output: Annotated[Path, typer.Argument(help="The JSON file to write.")],
    memory: Annotated[
        float | None, typer.Option(min=0.1, help="Gigabytes it may take; default 0.9 of all.")
    ] = None,
) -> None:
    """Measure time, memory and errors of one step of the prior.

    On weights drawn from a mixture, in the shapes of the network. Nothing else should run
    meanwhile. A step that does not fit into memory is written down as such.

    \b
    Example:
      sws prior-cost vgg-16 tabulated cost.json
    """
    from sws.measure import prior_cost as module

    if estimator not in module.ESTIMATORS:
        raise InputError(
            f"there is no estimator {estimator!r}; choose one of {', '.join(module.ESTIMATORS)}"
        )
    print(module.build(case, estimator, output, memory))


def prior_study(results: Results = None, output: Output = None) -> None:
    """Write table and figure of what 'sws prior-cost' measured.

    \b
    Example:
      snakemake --cores all studies
      sws prior-study
    """
    from sws.report import prior_study as module

    results = results_in(results)
    for path in module.build(results, output or results):
        print(path)


COMMANDS = (prior_cost, prior_study)
