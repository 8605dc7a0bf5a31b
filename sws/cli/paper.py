"""Commands on the paper as written: ladder, claims, and the study of the mixture's rates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sws.cli.arguments import (
    Checkpoints,
    ConfigFiles,
    Pairs,
    Results,
    Seed,
    checkpoints_in,
    configuration,
    interactive,
    names,
    results_in,
)
from sws.cli.stages import working
from sws.cli.study import Output

if TYPE_CHECKING:
    from sws.config.sensitivity import Sensitivity

StudyFile = Annotated[
    Path | None, typer.Option(help="The study's file; default config/sensitivity.yaml.")
]


def ladder(
    results: Results = None,
    output: Output = None,
    pairs: Pairs = None,
    config: ConfigFiles = None,
) -> None:
    """Show what each change from the paper's recipe to ours buys.

    From the runs of the ladder's points, of these results or of the reference in them.

    \b
    Example:
      sws ladder --pairs lenet-300-100_mnist
    """
    from sws.report import ladder as module
    from sws.study.plan import find_experiment

    results = results_in(results, config)
    wanted = names(pairs) if pairs else configuration(config).pairs
    for path in module.build(results, output or results, [find_experiment(p) for p in wanted]):
        print(path)


def claims(results: Results = None, output: Output = None, config: ConfigFiles = None) -> None:
    """Judge the paper's claims by the runs, with the rules.

    From whatever has run, in these results or in the reference in them. A claim whose runs are
    missing says so, and the command that makes them.

    \b
    Example:
      sws claims
    """
    from sws.report import claims as module

    results = results_in(results, config)
    for path in module.build(results, output or results / "tables" / "claims"):
        print(path)


def sensitivity(results: Results = None, output: Output = None, study: StudyFile = None) -> None:
    """Show what the rates of the mixture do to error and size.

    \b
    Example:
      sws sensitivity
    """
    from sws.report import sensitivity as module

    results = results_in(results)
    for path in module.build(results, output or results, _study(study)):
        print(path)


def rate_trial(
    name: Annotated[str, typer.Argument(help="A trial, such as free-1e-04.")],
    seed: Seed = 1,
    results: Results = None,
    checkpoints: Checkpoints = None,
    study: StudyFile = None,
) -> None:
    """Run one trial of the study of the mixture's rates.

    Needs 'sws pretrain --for-trials' of the study's pair and seed.

    \b
    Example:
      sws rate-trial free-1e-04 --seed 1
    """
    from sws.study import sensitivity as module
    from sws.study.plan import find_experiment

    chosen, results = _study(study), results_in(results)
    experiment = find_experiment(chosen.pair)
    with working():
        folder = module.run(
            chosen,
            experiment,
            name,
            seed,
            results,
            checkpoints=checkpoints_in(results, checkpoints),
            progress=interactive(),
        )
    print(folder)


def _study(path: Path | None) -> Sensitivity:
    from sws.study import sensitivity as module
    from sws.study.plan import find_config

    return module.load(path or find_config("sensitivity.yaml") or Path("config/sensitivity.yaml"))


COMMANDS = (ladder, claims, sensitivity, rate_trial)
