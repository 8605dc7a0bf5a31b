"""Commands on the study as a whole: status, data, tables, figures, compare, publish."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sws.cli.arguments import (
    ConfigFiles,
    Pairs,
    Results,
    Seeds,
    checkpoints_in,
    configuration,
    names,
    numbers,
    results_in,
    use_configured_data,
)
from sws.cli.process import Status
from sws.environment import CHECKOUT
from sws.files import write_text

if TYPE_CHECKING:
    from sws.runs.records import MethodPoint, Pair
    from sws.study.plan import Target

TargetName = Annotated[str, typer.Argument(help="all, baselines, mnist, …, or smoke.")]
Output = Annotated[Path | None, typer.Option(help="Where to write; default in the results.")]
REFERENCE_OVERLAY = "reference.yaml"


def status(
    target: TargetName = "all",
    results: Results = None,
    logs: Annotated[Path, typer.Option(help="Folder of the workflow's logs.")] = Path("logs"),
    config: ConfigFiles = None,
) -> None:
    """Show what has run, what is running and how far, what failed.

    Reads files only: it disturbs no run, and works wherever the results folder can be seen, on a
    cluster's login node too. What is to do and has never been started is 'to do'; what was killed
    or told to stop is 'stopped', and goes on when the workflow is started again.

    \b
    Example:
      sws status mnist
      watch -n 30 sws status mnist
    """
    from sws.study import status as module
    from sws.study.plan import Plan

    _check_target(target)
    plan = Plan(configuration(config))
    folder = results or plan.configuration.results
    checkpoints = None if results is None else checkpoints_in(results, None)
    jobs = module.jobs(plan, target, folder, logs, checkpoints)
    print(module.report(map(module.state, jobs), plan.target(target).missing), end="")


def data(
    dataset: Annotated[
        list[str] | None, typer.Argument(help="Data sets to read and check; none lists them all.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Write what was found to this JSON file (one data set).")
    ] = None,
) -> None:
    """List the data sets, or read some and check their hashes.

    The list says where each is found, or how to supply it. A data set that is named and not
    there is downloaded, if there is a network.

    \b
    Example:
      sws data
      sws data mnist
    """
    from sws.data import datasets

    use_configured_data()
    if output is not None and len(dataset or ()) != 1:
        raise typer.BadParameter("--output is for one data set; name it")
    if not dataset:
        for name in datasets.names():
            state = datasets.availability(name)
            print(f"{name:15} {state.where if state.available else f'no data; {state.fix}'}")
    for name in dataset or ():
        loaded = datasets.load(name)
        found = {
            "dataset": name,
            "digest": loaded.digest,
            "train": len(loaded.train),
            "test": len(loaded.test),
            "read_from": datasets.availability(name).where,
        }
        print(f"{name}: {found['train']} + {found['test']} images from {found['read_from']}")
        if output is not None:
            _write_json(output, found)


def _write_json(path: Path, values: dict) -> None:

    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(values, indent=1) + "\n")


def tables(
    target: TargetName = "all",
    results: Results = None,
    output: Output = None,
    pairs: Pairs = None,
    seeds: Seeds = None,
    no_data: Annotated[
        str, typer.Option(help="Pairs, separated by commas, to show as 'no data'.")
    ] = "",
    config: ConfigFiles = None,
) -> None:
    """Write the tables of a target from its runs.

    As CSV, Markdown and LaTeX. Runs that are missing are shown as 'not run'. Pairs and seeds are
    those of the configuration unless they are given.

    \b
    Example:
      sws tables mnist --seeds 1,2,3
    """
    from sws.report import tables as module
    from sws.study.plan import split_pairs

    chosen, results = chosen_target(target, config, pairs, seeds), results_in(results, config)
    written = module.build(
        results,
        output or results / "tables" / target,
        split_pairs(chosen.pairs),
        chosen.seeds,
        points_of(chosen),
        missing_data=set(split_pairs([*names(no_data), *chosen.missing])),
        compare=chosen.compares,
    )
    _list(written)


def figures(
    target: TargetName = "all",
    results: Results = None,
    output: Output = None,
    pairs: Pairs = None,
    seeds: Seeds = None,
    only: Annotated[
        str | None, typer.Option(help="Figures, separated by commas; default all.")
    ] = None,
    config: ConfigFiles = None,
) -> None:
    """Draw the figures of a target from its runs.

    As SVG and PNG; the animation as GIF.

    \b
    Example:
      sws figures mnist --only fig1_weights,fig3_components
    """
    from sws.report import figures as module
    from sws.study.plan import METHOD, POINT, figure_names, find_experiment, split_pairs

    chosen, results = chosen_target(target, config, pairs, seeds), results_in(results, config)
    settings = {
        pair: find_experiment("_".join(pair)).point(METHOD, POINT).model_dump(mode="json")
        for pair in split_pairs(chosen.runnable)
    }
    written, skipped = module.build(
        results,
        output or results / "figures" / target,
        split_pairs(chosen.runnable),
        chosen.seeds,
        only=names(only) if only else figure_names(target),
        settings=settings,
        points=points_of(chosen),
    )
    _list(written)
    for figure, reason in skipped.items():
        print(f"left out {figure}: {reason}")


def compare(
    new: Annotated[
        Path | None, typer.Argument(help="Results of the run to judge; default as configured.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Argument(help="Results to judge it by; default the published ones.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for comparison.csv and comparison.txt.")
    ] = None,
    confidence: Annotated[float, typer.Option(help="Of the intervals, between 0 and 1.")] = 0.95,
    points: Annotated[
        float, typer.Option(help="Difference of an error, in points, that does not matter.")
    ] = 0.1,
    share: Annotated[
        float, typer.Option(help="The same of sizes and ratios, as a share of them.")
    ] = 0.05,
) -> None:
    """Tell whether a run reproduces the reference and the paper.

    Files first, byte for byte. Then each number: same, different, or not to be told with so few
    seeds. Ends with status 3 if one is different; status 1 means that the two could not be
    compared.

    \b
    Example:
      sws compare results results/reference
    """
    from sws.report import reproduction as module

    comparison = module.build(
        results_in(new),
        reference or _reference(),
        output,
        confidence,
        margins=module.Margins(points, share),
    )
    print(comparison.to_text(), end="")
    raise typer.Exit(Status.OK if comparison.reproduces else Status.DIFFERS)


def _reference() -> Path:
    """The published results: below the results, or those of the checkout."""
    own = results_in(None) / "reference"
    return own if own.is_dir() else CHECKOUT / "results" / "reference"


def publish(
    target: Annotated[
        list[str] | None,
        typer.Argument(help="Targets whose runs, tables and figures to copy, or 'studies'."),
    ] = None,
    results: Results = None,
    reference: Annotated[
        Path | None, typer.Option(help="Folder to update; default RESULTS/reference.")
    ] = None,
    pairs: Pairs = None,
    seeds: Seeds = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Publish the seeds that have run so far.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Drop whatever else the reference holds.")
    ] = False,
    starts: Annotated[
        bool,
        typer.Option("--starts", help="Publish the pre-trained networks of these runs too."),
    ] = False,
    config: ConfigFiles = None,
) -> None:
    """Copy complete runs into results/reference, to commit them.

    The seeds of a case must come from one commit without local changes. Seeds are those of
    config/reference.yaml unless they are given. What is there already of other cases and targets
    stays.

    \b
    Examples:
      snakemake --cores all mnist --configfile config/reference.yaml
      sws publish mnist
      sws publish cifar10 --seeds 1 --partial --starts
      sws publish studies
    """
    from sws.study import publish as module
    from sws.study.plan import split_pairs

    targets, results = target or ["mnist"], results_in(results, config)
    points: dict[Pair, list[MethodPoint]] = {}
    chosen = [
        chosen_target(t, config, pairs, seeds, REFERENCE_OVERLAY)
        for t in targets
        if t not in module.STUDIES
    ]
    for one in chosen:
        for pair, own in points_of(one).items():
            points[pair] = list(dict.fromkeys([*points.get(pair, ()), *own]))
    folder, left_out = module.publish(
        results,
        reference or results / "reference",
        split_pairs(dict.fromkeys(pair for one in chosen for pair in one.runnable)),
        chosen[0].seeds if chosen else (),
        points,
        targets=targets,
        partial=partial,
        replace=replace,
        starts=starts,
    )
    for case in left_out:
        print(f"left out, not run: {case}", file=sys.stderr)
    print(folder)


def points_of(target: Target) -> dict[Pair, list[MethodPoint]]:
    """The runs that a target needs of each of its pairs."""
    from sws.study.plan import find_experiment, points, split_pair

    return {
        split_pair(pair): list(points(target.name, find_experiment(pair))) for pair in target.pairs
    }


def chosen_target(
    name: str,
    config: Sequence[Path] | None,
    pairs: str | None,
    seeds: str | None,
    *overlays: str,
) -> Target:
    """A target as configured, with the pairs and seeds given on the command line instead."""
    from sws.study import plan

    _check_target(name, plan.LADDER)
    given_seeds = tuple(numbers(seeds)) if seeds is not None else None
    for pair in names(pairs or ""):
        plan.find_experiment(pair)
    if pairs is not None and given_seeds:
        return plan.Target(name, tuple(names(pairs)), given_seeds, {})
    configured = plan.Plan(configuration(config, *overlays))
    found = configured.target(name)
    chosen = tuple(names(pairs)) if pairs is not None else found.pairs
    missing = {pair: fix for pair, fix in found.missing.items() if pair in chosen}
    return plan.Target(name, chosen, given_seeds or found.seeds, missing)


def _check_target(name: str, *more: str) -> None:
    from sws.study.plan import TARGETS

    if name not in (*TARGETS, *more):
        raise typer.BadParameter(f"no target {name!r}; choose from {', '.join(TARGETS)}")


def _list(written: Sequence[Path]) -> None:
    for path in written:
        print(path)


COMMANDS = (status, data, tables, figures, compare, publish)
