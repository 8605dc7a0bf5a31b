"""Networks, data sets and methods as a reader knows them."""

from __future__ import annotations

from sws.config import methods
from sws.data import catalogue
from sws.models import registry
from sws.runs.records import Case, Pair


def pair_title(pair: Pair) -> str:
    """A network on a data set, in words; names that nothing declares stay as they are."""
    model, dataset = pair
    network = registry.NETWORKS.get(model)
    data = catalogue.SPECS.get(dataset)
    return f"{network.title if network else model} on {data.title if data else dataset}"


def model_title(model: str) -> str:
    """A network in words."""
    network = registry.NETWORKS.get(model)
    return network.title if network else model


def case_title(case: Case) -> str:
    """A method at a point in words: ``main`` goes without saying."""
    title = methods.spec(case.method).title
    return title if case.point == "main" else f"{title}, {case.point}"
