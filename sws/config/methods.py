"""Every compression method, declared once: the rest of the package reads what a method is here.

The experiment's schema, the tables, the figures, the curves, tuning, and the code hash are built
from :data:`METHODS`. A method is its module in :mod:`sws.methods`, its settings in
:mod:`sws.config`, and its entry below. Importing this module imports no method and no deep-learning
framework.
"""

from __future__ import annotations

from dataclasses import dataclass

from sws.config.deep_compression import DeepCompression
from sws.config.network_surgery import NetworkSurgery
from sws.config.no_prior import NoPrior
from sws.config.post_hoc_mixture import PostHocMixture
from sws.config.sections import Point
from sws.config.soft_weight_sharing import SoftWeightSharing
from sws.config.spike_slab import SpikeSlab
from sws.errors import InputError


@dataclass(frozen=True)
class MethodSpec:
    """What the package knows about a method.

    Attributes
    ----------
    name : str
        As in paths and experiment files.
    title : str
        As a reader knows it.
    module : str
        Dotted name of the module whose ``compress`` runs it.
    settings : type of Point
        The section of an experiment file that holds one operating point.
    look : tuple of str
        Colour, marker and line style in figures; an empty line style joins no points.
    paper : str or None
        The row of the literature that it re-measures (``paper`` in resources/published.csv).
    sizes : bool
        Whether that paper gives a size; if not, storage is our addition, and table 1 shows the
        network before it as well.
    variant_of : str or None
        The method that it varies. A variant shares its tuning, and its points make no curve.
    """

    name: str
    title: str
    module: str
    settings: type[Point]
    look: tuple[str, str, str]
    paper: str | None = None
    sizes: bool = True
    variant_of: str | None = None

    @property
    def tuned_as(self) -> str:
        """The method whose tuning trials chose this one's settings."""
        return self.variant_of or self.name


OURS = "soft-weight-sharing"

METHODS = (
    MethodSpec(
        name=OURS,
        title="Soft weight-sharing",
        module="sws.methods.soft_weight_sharing",
        settings=SoftWeightSharing,
        look=("#0b3c6f", "o", "-"),
        paper="Ullrich et al., Soft Weight-Sharing",
    ),
    MethodSpec(
        name="soft-weight-sharing-subsampled",
        title="Soft weight-sharing, Appendix C",
        module="sws.methods.subsampled",
        settings=SoftWeightSharing,
        look=("#0b3c6f", "h", ""),
        variant_of=OURS,
    ),
    MethodSpec(
        name="deep-compression",
        title="Deep Compression",
        module="sws.methods.deep_compression",
        settings=DeepCompression,
        look=("#a03070", "s", "--"),
        paper="Han et al., Deep Compression",
    ),
    MethodSpec(
        name="network-surgery",
        title="Network surgery",
        module="sws.methods.network_surgery",
        settings=NetworkSurgery,
        look=("#2e7d4f", "D", ":"),
        paper="Guo et al., Dynamic Network Surgery",
        sizes=False,
    ),
    MethodSpec(
        name="no-prior",
        title="No prior",
        module="sws.methods.no_prior",
        settings=NoPrior,
        look=("#6a51a3", "^", "-."),
    ),
    MethodSpec(
        name="post-hoc-mixture",
        title="Post-hoc mixture",
        module="sws.methods.post_hoc_mixture",
        settings=PostHocMixture,
        look=("#8c8c8c", "v", ":"),
    ),
    MethodSpec(
        name="spike-slab",
        title="Spike and slab",
        module="sws.methods.spike_slab",
        settings=SpikeSlab,
        look=("#3d9ac4", "P", "-"),
    ),
)
"""In the order of table 1."""

_BY_NAME = {method.name: method for method in METHODS}


def names() -> tuple[str, ...]:
    """Names of all methods, in the order of table 1."""
    return tuple(_BY_NAME)


def spec(name: str) -> MethodSpec:
    """What the package knows about a method.

    Raises
    ------
    InputError
        If there is no such method.
    """
    try:
        return _BY_NAME[name]
    except (KeyError, TypeError):
        raise InputError(f"unknown method {name!r}; choose one of {', '.join(names())}") from None
