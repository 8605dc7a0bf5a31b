"""What to run: the pairs and seeds of each target, and what decides a stage's result.

Everything that the workflow asks before a job starts is answered here, without a deep-learning
framework: which pairs have data, how many threads a network needs, which settings, data and code a
result stands for.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sws.config import methods
from sws.config.configuration import Configuration
from sws.config.experiment import START, Experiment, load_experiment
from sws.config.schema import ConfigurationError
from sws.config.sections import Point
from sws.data import datasets
from sws.environment import CHECKOUT
from sws.models import registry
from sws.report.names import pair_title
from sws.runs.records import (
    Case,
    MethodPoint,
    Pair,
    checkpoint_root,
    profile_path,
    start_folder,
    trials_path,
)
from sws.study.code_hash import code_hash, roots

METHOD, POINT = methods.OURS, "main"
FOLLOWING = tuple(
    method.name for method in methods.METHODS if method.settings.follows is not Point.follows
)
"""Methods that may take a number from a finished run of another, which never is one of these."""

DATASET_TARGETS: Mapping[str, str] = {
    "mnist": "mnist",
    "cifar10": "cifar-10",
    "cifar100": "cifar-100",
}
"""Target → the data set that it covers."""

SMOKE_PAIRS = ("lenet-300-100_mnist-smoke", "lenet-5-caffe_mnist-smoke")
SMOKE_SEEDS = (1,)
AS_WRITTEN, LADDER = "paper", "ladder"
TARGETS = ("all", *DATASET_TARGETS, "baselines", AS_WRITTEN, "smoke")
COMPARING = ("baselines", "smoke")
"""Targets that run every method at every point; the others run ours at its main point, and
``paper`` also at the points that the paper and its tutorial describe."""
PRIOR_CASES = ("lenet-300-100", "wrn-16-4", "vgg-16", "vgg-16-imagenet")
PRIOR_ESTIMATORS = (
    *("broadcast", "exact", "tabulated"),
    *("subsampled-10000", "subsampled-100000", "subsampled-1000000"),
)
"""What the study of the prior's cost measures; :mod:`sws.measure.prior_cost` knows how."""


@dataclass(frozen=True)
class Target:
    """A named part of the study.

    Attributes
    ----------
    pairs : to run, ``<model>_<dataset>``.
    missing : pair → how to supply its data, for those that this machine has no data for.
    """

    name: str
    pairs: tuple[str, ...]
    seeds: tuple[int, ...]
    missing: Mapping[str, str]

    @property
    def compares(self) -> bool:
        """Whether it runs every method of its experiments."""
        return self.name in COMPARING

    @property
    def runnable(self) -> tuple[str, ...]:
        return tuple(pair for pair in self.pairs if pair not in self.missing)

    @property
    def problem(self) -> str | None:
        """Why this target cannot run at all, in one line; None if it can.

        A target named after a data set needs that data set; ``all`` makes do with what is there.
        """
        if not self.pairs:
            return f"no configured pair belongs to target {self.name}; add one to 'pairs'"
        if self.name in DATASET_TARGETS and self.missing:
            return next(iter(f"{pair}: no data; {fix}" for pair, fix in self.missing.items()))
        if not self.runnable:
            return "no configured pair has data; " + next(iter(self.missing.values()))
        return None


@dataclass(frozen=True)
class FigureFile:
    """A picture that a target makes.

    Attributes
    ----------
    figure : its name in :data:`sws.report.figures.FIGURES`.
    subject : what it shows: the pair, in words, or ``The method``.
    """

    path: str
    figure: str
    subject: str

    @classmethod
    def of(cls, path: Path, known: Iterable[str]) -> FigureFile:
        """Take ``<figure>_<model>_<dataset>.<ending>`` apart; the last two may be absent."""
        figure = max((name for name in known if path.stem.startswith(name)), key=len)
        pair = path.stem.removeprefix(figure).removeprefix("_")
        subject = pair_title(split_pair(pair)) if pair else "The method"
        return cls(path.as_posix(), figure, subject)

    @property
    def title(self) -> str:
        from sws.report import figures

        number = self.figure.removeprefix("fig").partition("_")[0]
        return f"Figure {number}: {figures.TITLES[self.figure]}"

    @property
    def method(self) -> str:
        """What is drawn in it, in words: our method, or all of them."""
        from sws.report import figures

        return (
            "All methods"
            if figures.FIGURES[self.figure].needs == "methods"
            else methods.spec(METHOD).title
        )


class Plan:
    """The configuration with its experiments read and checked, and what follows from it.

    Parameters
    ----------
    experiments : folder of ``<model>_<dataset>.yaml``; default as in :func:`find_experiment`.

    Raises
    ------
    ConfigurationError
        If a pair has no experiment file, an experiment is wrong, or names an unknown network or
        data set.
    """

    def __init__(self, configuration: Configuration, experiments: Path | None = None) -> None:
        self.configuration = configuration
        self.experiments = {
            pair: find_experiment(pair, experiments)
            for pair in dict.fromkeys((*configuration.pairs, *SMOKE_PAIRS))
        }
        self.data_root = configuration.data_root or os.environ.get("SWS_DATA_ROOT") or None
        self.checkpoint_root = checkpoint_root(configuration.results, configuration.checkpoint_root)

    @functools.cached_property
    def missing(self) -> dict[str, str]:
        """Pair → fix, for every configured pair whose data set is not on this machine."""
        found = {}
        for pair in self.configuration.pairs:
            state = datasets.availability(split_pair(pair)[1], self.data_root)
            if not state.available:
                found[pair] = state.fix
        return found

    def target(self, name: str) -> Target:
        """Pairs and seeds of one of :data:`TARGETS`."""
        if name == "smoke":
            return Target(name, SMOKE_PAIRS, SMOKE_SEEDS, {})
        pairs = tuple(pair for pair in dict.fromkeys(self.configuration.pairs))
        if name in DATASET_TARGETS:
            pairs = tuple(p for p in pairs if split_pair(p)[1] == DATASET_TARGETS[name])
        elif name == "baselines":
            pairs = tuple(p for p in pairs if set(self.experiment(p).methods) - {METHOD})
        elif name == AS_WRITTEN:
            pairs = tuple(p for p in pairs if self.experiment(p).as_written)
        elif name == LADDER:
            pairs = tuple(p for p in pairs if self.experiment(p).ladder)
        missing = {pair: self.missing[pair] for pair in pairs if pair in self.missing}
        return Target(name, pairs, self.configuration.seeds, missing)

    def start(self, pair: str, method: str, point: str) -> str:
        """Name of the start that a point begins with."""
        return self.experiment(pair).point(method, point).start

    def start_files(self, pair: str, method: str, point: str, seed: str | int) -> list[str]:
        """The pre-trained network that a run begins with, and what was measured of it."""
        start = self.start(pair, method, point)
        folder = start_folder(self.configuration.results, split_pair(pair), start, int(seed))
        return [(folder / name).as_posix() for name in ("pretrained.safetensors", "metrics.json")]

    def starts(self, target: str) -> list[Path]:
        """Folders of the pre-trained networks that a target's runs begin with, each once."""
        results, seeds = self.configuration.results, self.target(target).seeds
        wanted = dict.fromkeys(
            (case.pair, self.start("_".join(case.pair), case.method, case.point))
            for case in self.cases(target)
        )
        return [start_folder(results, *one, seed) for one in wanted for seed in seeds]

    def identity(
        self,
        stage: str,
        pair: str,
        method: str = METHOD,
        point: str = POINT,
        start: str = START,
    ) -> dict[str, str]:
        """What a stage's result stands for: a change of any of these makes it run again.

        Parameters
        ----------
        stage : ``pretrain``, of ``start``, or ``compress``, of ``method`` at ``point``.

        Returns
        -------
        ``settings``, ``data`` and ``code`` as shortened SHA-256.
        """
        experiment = self.experiment(pair)
        pretraining = stage == "pretrain"
        section = experiment.start(start) if pretraining else experiment.point(method, point)
        found = {
            "settings": section.fingerprint(),
            "data": datasets.digest(experiment.dataset),
            "code": code_hash(
                *roots(
                    stage,
                    model=experiment.model,
                    dataset=experiment.dataset,
                    method=None if pretraining else method,
                )
            ),
        }
        return {name: value[:16] for name, value in found.items()}

    def digest(self, dataset: str) -> str:
        """Shortened hash of a data set that this plan can load.

        Raises
        ------
        ConfigurationError
            If there is no such data set, or it is not on this machine; the message has the fix.
        """
        try:
            state = datasets.availability(dataset, self.data_root)
        except ValueError as error:
            raise ConfigurationError(str(error)) from None
        if not state.available:
            raise ConfigurationError(f"no data for {dataset}: {state.fix}")
        return datasets.digest(dataset)[:16]

    def threads(self, model: str) -> int:
        return registry.spec(model).threads

    def memory_mb(self, model: str, attempt: int = 1) -> int:
        """Main memory to ask a scheduler for, in megabytes; more with each attempt."""
        return attempt * registry.spec(model).memory_mb

    def minutes(self, model: str, attempt: int = 1) -> int:
        """Time to ask a scheduler for; more with each attempt."""
        return attempt * registry.spec(model).minutes

    def gpus(self, model: str) -> int:
        """1 for a network that fills a GPU; small ones share it, or do without."""
        return int(self.threads(model) > 1)

    def environment(self) -> dict[str, str]:
        """Variables by which jobs find raw data, checkpoints and nncodec, as absolute paths.

        That of the raw data is there even if it is empty, so that no job looks for it elsewhere.
        """
        data = str(Path(self.data_root).expanduser().absolute()) if self.data_root else ""
        found = {
            "SWS_CHECKPOINT_ROOT": str(self.checkpoint_root.absolute()),
            "SWS_DATA_ROOT": data,
        }
        if self.configuration.nncodec:
            found["SWS_NNCODEC"] = str(self.configuration.nncodec.absolute())
        return found

    def left_out(self) -> str:
        """Lines on the pairs that have no data, each with the fix; empty if there are none."""
        lines = [f"  {pair}: {fix}\n" for pair, fix in self.missing.items()]
        return "".join(["left out, no data on this machine:\n", *lines]) if lines else ""

    def run_files(self, target: str, *names: str) -> list[str]:
        """Files of those names, of every run that a target's tables and figures are made of."""
        chosen, results = self.target(target), self.configuration.results
        return [
            (case.folder(results, seed) / name).as_posix()
            for case in self.cases(target)
            for seed in self.seeds(chosen, case)
            for name in names
        ]

    def seeds(self, target: Target, case: Case) -> tuple[int, ...]:
        """The seeds that a target runs of a case: a ladder may ask for fewer than configured."""
        ladder = self.experiment("_".join(case.pair)).ladder
        if target.name != LADDER or ladder is None:
            return target.seeds
        return target.seeds[: ladder.seeds]

    def cases(self, target: str) -> list[Case]:
        """What a target runs, of the pairs that have data."""
        chosen = self.target(target)
        return [
            Case(*split_pair(pair), *method_point)
            for pair in chosen.runnable
            for method_point in points(target, self.experiment(pair))
        ]

    def profile_files(self, target: str) -> list[str]:
        """What inference was measured to cost: one seed of every case of a target that compares.

        The smoke target is content with our own method.
        """
        chosen, results = self.target(target), self.configuration.results
        cases = self.cases(target) if chosen.compares else []
        if target == "smoke":
            cases = [case for case in cases if case.method == METHOD]
        return [profile_path(results, case, chosen.seeds[0]).as_posix() for case in cases]

    def followed(self, pair: str, method: str, point: str, seed: str | int) -> list[str]:
        """``metrics.json`` of the run that another one takes a number from, if it takes any."""
        followed = self.experiment(pair).point(method, point).follows
        if followed is None:
            return []
        case = Case(*split_pair(pair), *followed)
        return [(case.folder(self.configuration.results, int(seed)) / "metrics.json").as_posix()]

    def points_id(self, target: str) -> str:
        """The cases of a target in one line: a change of it makes its tables and figures anew."""
        return " ".join(map(str, self.cases(target)))

    def table_files(self, target: str) -> list[str]:
        """The tables of a target beside the pages that go into the report."""
        names = ["table1.csv", "table1.md", "table1.tex", "layers.csv", "layers.md"]
        if self.target(target).compares:
            names += ["fixed.csv", "fixed.md"]
        return [(self.configuration.results / "tables" / target / n).as_posix() for n in names]

    def trial_files(self, target: str) -> list[str]:
        """Tuning trials of a target's pairs, as far as there are any."""
        return [path.as_posix() for path in self._trials(target).values()]

    def figure_files(self, target: str) -> list[FigureFile]:
        """The pictures that a target's results allow."""
        from sws.report import figures

        folder = self.configuration.results / "figures" / target
        pairs = split_pairs(self.target(target).runnable)
        names = figures.filenames(pairs, tuple(self._trials(target)), figure_names(target))
        return [FigureFile.of(folder / name, tuple(figures.FIGURES)) for name in names]

    def _trials(self, target: str) -> dict[Pair, Path]:
        pairs = split_pairs(self.target(target).runnable)
        paths = {pair: trials_path(self.configuration.results, pair, METHOD) for pair in pairs}
        return {pair: path for pair, path in paths.items() if path.is_file()}

    def experiment(self, pair: str) -> Experiment:
        """A pair's experiment.

        Raises
        ------
        ConfigurationError
            If the configuration does not name the pair.
        """
        try:
            return self.experiments[pair]
        except KeyError:
            raise ConfigurationError(
                f"pair {pair!r} is not configured; add it to 'pairs' in config/config.yaml"
            ) from None


def finished(results: str | Path) -> list[str]:
    """What has run and been tried, here and in the reference: what claims are checked against."""
    roots = (Path(results), Path(results) / "reference")
    patterns = ("runs/*/*/*/seed-*/metrics.json", "sensitivity/*/seed-*/trial.json")
    patterns += ("tuning/*/*/trials.csv",)
    found = (path for root in roots for pattern in patterns for path in root.glob(pattern))
    return sorted(path.as_posix() for path in found)


def points(target: str, experiment: Experiment) -> tuple[MethodPoint, ...]:
    """(method, point) of the runs that a target needs of an experiment."""
    if target == AS_WRITTEN:
        return tuple((METHOD, point) for point in (POINT, *experiment.as_written))
    if target == LADDER:
        ends = (experiment.ladder.base, experiment.ladder.top) if experiment.ladder else ()
        return tuple((METHOD, point) for point in (*ends, *experiment.ladder_points))
    if target not in COMPARING:
        return ((METHOD, POINT),)
    return tuple((method, point) for method, own in experiment.methods.items() for point in own)


def figure_names(target: str) -> list[str]:
    """The figures of a target, by their names in :data:`sws.report.figures.FIGURES`."""
    from sws.report import figures

    comparing = [name for name, kind in figures.FIGURES.items() if kind.needs == "methods"]
    if target == "baselines":
        return comparing
    return [name for name in figures.FIGURES if target in COMPARING or name not in comparing]


def config_places(name: str) -> list[Path]:
    """Where a part of ``config/`` is looked for: in the working directory, then in the checkout."""
    return [Path("config", name), CHECKOUT / "config" / name]


def find_config(name: str = "config.yaml") -> Path | None:
    """A file of ``config/``, in the first of :func:`config_places` that has it."""
    return next((path for path in config_places(name) if path.is_file()), None)


def find_experiment(name: str | Path, folder: Path | None = None) -> Experiment:
    """Read the experiment of a pair, or an experiment file.

    Parameters
    ----------
    name : ``<model>_<dataset>``, or the path of a YAML file.
    folder : where to look for pairs; by default ``experiments`` in each of :func:`config_places`.

    Raises
    ------
    ConfigurationError
        If there is no such file, it is wrong, or names an unknown network or data set.
    """
    if str(name).endswith((".yaml", ".yml")):
        return _read(Path(name))
    places = [Path(folder)] if folder else config_places("experiments")
    found = [path for place in places if (path := place / f"{name}.yaml").is_file()]
    if not found:
        known = sorted({path.stem for place in places for path in place.glob("*.yaml")})
        raise ConfigurationError(
            f"pair {str(name)!r} has no experiment {places[0] / f'{name}.yaml'}; "
            f"write one, or choose from {', '.join(known) or 'nothing: the folder is empty'}"
        )
    experiment = _read(found[0])
    if experiment.pair != str(name):
        raise ConfigurationError(f"{found[0]}: is about {experiment.pair}; rename or correct it")
    return experiment


def _read(path: Path) -> Experiment:
    experiment = load_experiment(path)
    known = {"model": registry.names(), "dataset": datasets.names()}
    for key, names in known.items():
        value = getattr(experiment, key)
        if value not in names:
            raise ConfigurationError(f"{path}: {key} = {value!r}: choose one of {', '.join(names)}")
    return experiment


def split_pair(pair: str) -> Pair:
    """``<model>_<dataset>`` → (model, dataset)."""
    model, _, dataset = pair.partition("_")
    return model, dataset


def split_pairs(pairs: Iterable[str]) -> list[Pair]:
    return [split_pair(pair) for pair in pairs]
