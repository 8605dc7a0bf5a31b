"""Typed settings: what the configuration files may say, with ranges; everything else is an error.

Two kinds of file. ``config/config.yaml`` (:class:`Configuration`) says what to run;
``config/experiments/<model>_<dataset>.yaml`` (:class:`Experiment`) says how a pair of network and
data set is trained and compressed. The JSON schemas in ``workflow/schemas`` are generated from the
classes here, and a test keeps both in step. Importing this module does not import torch.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Name = Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Epochs = Annotated[int, Field(ge=0, le=10_000)]
Rate = Annotated[float, Field(gt=0, le=1)]


class ConfigurationError(ValueError):
    """A configuration file is wrong; the message names file, key, value and what is allowed."""


class Settings(BaseModel):
    """Base of all sections: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def fingerprint(self) -> str:
        """SHA-256 over the section's values, defaults included."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


class Augmentation(Settings):
    """Random changes of the training images, drawn anew for every image and epoch."""

    shift: Annotated[int, Field(ge=0, le=16)] = Field(0, description="by up to so many pixels")
    flip: bool = Field(False, description="left to right, half of the time")


class Pretraining(Settings):
    """How the network is trained before any compression; shared by all methods."""

    epochs: Annotated[int, Field(ge=1, le=10_000)]
    batch_size: Annotated[int, Field(ge=1)] = 128
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Rate
    warm_up: Fraction = Field(0.0, description="fraction of the steps over which the rate rises")
    weight_decay: Annotated[float, Field(ge=0, lt=1000)] = 0.0
    augmentation: Augmentation = Augmentation()
    bfloat16: bool = False


Knot = tuple[Fraction, Positive]


class Precision(Settings):
    """A Gamma hyper-prior on precisions λ = 1/σ²; one of three forms.

    ``alpha`` and ``beta``; or ``mode`` and ``variance``; or ``pseudo_count`` and ``deviation``:
    α − 1 is half the pseudo-count, which is a fraction of the number of weights, and the mode is
    1/deviation². The deviation may be a list of [fraction of the epochs, σ], between which it moves
    geometrically: the mixture is annealed.
    """

    alpha: Positive | None = None
    beta: Positive | None = None
    mode: Positive | None = None
    variance: Positive | None = None
    pseudo_count: Positive | None = None
    deviation: Positive | Annotated[tuple[Knot, ...], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Precision:
        given = {k for k in type(self).model_fields if getattr(self, k) is not None}
        forms = ({"alpha", "beta"}, {"mode", "variance"}, {"pseudo_count", "deviation"})
        if given not in forms:
            raise ValueError(
                "give alpha and beta, or mode and variance, or pseudo_count and deviation"
            )
        return self


class Proportion(Settings):
    """π_0: fixed, or learned under a Beta hyper-prior of that mode."""

    value: Annotated[float, Field(gt=0, lt=1)] = 0.999
    learned: bool = False
    pseudo_count: Annotated[float, Field(ge=0)] = Field(
        1.0, description="weight of the Beta hyper-prior, as a fraction of the number of weights"
    )


class Prior(Settings):
    """The mixture: its size, its start, its hyper-priors and how log p(w) is computed."""

    components: Annotated[int, Field(ge=2, le=1024)] = 17
    deviation: Positive = Field(0.25, description="σ of every component at the start")
    zero_proportion: Proportion = Proportion()
    zero_precision: Precision | None = Precision(alpha=5000, beta=2)
    precision: Precision | None = Precision(alpha=250, beta=0.1)
    estimator: Literal["exact", "tabulated", "subsampled"] = "tabulated"
    samples: Annotated[int, Field(ge=1)] = Field(10_000, description="K of Appendix C")
    update: Literal["em", "adam"] = "em"
    interval: Annotated[int, Field(ge=1)] = Field(
        10, description="steps between updates of the mixture"
    )
    damping: Annotated[float, Field(gt=0, le=1)] = Field(0.1, description="of an EM update")
    rates: tuple[Rate, Rate, Rate] = Field(
        (5e-4, 5e-4, 5e-4), description="Adam's for means, log-precisions and mixing logits"
    )


class Retraining(Settings):
    """Training under the prior."""

    epochs: Epochs
    batch_size: Annotated[int, Field(ge=1)] = 128
    learning_rate: Rate = 1e-3
    final_rate: Fraction = Field(0.0, description="what is left of the rate after cosine decay")
    tau: Annotated[float, Field(ge=0, le=10)] = Field(0.005, description="τ of the objective")
    warm_up: Fraction = Field(0.0, description="fraction of the epochs over which τ grows")
    augmentation: Augmentation = Augmentation()
    bfloat16: bool = False


class Quantization(Settings):
    """From retrained weights to a codebook and indexes.

    Epochs of 0 leave a step out; all steps see the batches and the augmentation of the retraining.
    """

    merge: Literal["divergence", "rate"] = Field(
        "divergence", description="components by KL divergence (the paper), or entries by bits"
    )
    merge_below: Annotated[float, Field(ge=0)] = Field(1e-10, description="KL threshold, in nats")
    assignment: Literal["map", "nearest", "rd"] = "map"
    distortion: Positive = Field(
        0.01, description="σ at which half a squared deviation is worth a nat, for the rd rule"
    )
    sharing_epochs: Epochs = Field(0, description="straight-through training of shared weights")
    sharing_rate: Rate = 1e-3
    refinement_epochs: Epochs = Field(0, description="training with assignments frozen")
    refinement_rate: Rate = 5e-4
    codebook_rate: Positive = Field(0.1, description="the codebook's rate, as a multiple")
    bias_bits: Annotated[int, Field(ge=1, le=10)] = Field(
        10, description="bits of the mantissa that float16 biases keep"
    )


class SoftWeightSharing(Settings):
    """One operating point of soft weight-sharing."""

    prior: Prior = Prior()
    retraining: Retraining
    quantization: Quantization = Quantization()


class Experiment(Settings):
    """``config/experiments/<model>_<dataset>.yaml``: one pair of network and data set."""

    model: Name
    dataset: Name
    pretraining: Pretraining
    soft_weight_sharing: dict[Name, SoftWeightSharing] = Field(
        alias="soft-weight-sharing", description="operating points by name; 'main' is the table's"
    )
    hold_out: bool = Field(
        False,
        description="train on all but the validation images throughout: one start for trials and "
        "table, where two would take too long",
    )
    allowed_rise_pct: Annotated[float, Field(ge=0, le=100)] = Field(
        0.05, description="points of validation error over the start that tuning allows"
    )

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    @property
    def pair(self) -> str:
        return f"{self.model}_{self.dataset}"

    def point(self, method: str, point: str) -> SoftWeightSharing:
        """Settings of a method at a point.

        Raises
        ------
        ConfigurationError
            If the experiment has no such method or point; the message lists those it has.
        """
        methods = {"soft-weight-sharing": self.soft_weight_sharing}
        if method not in methods:
            raise ConfigurationError(
                f"{self.pair}: unknown method {method!r}; choose one of {', '.join(methods)}"
            )
        if point not in methods[method]:
            raise ConfigurationError(
                f"{self.pair}: {method} has no point {point!r}; "
                f"its points are {', '.join(methods[method])}"
            )
        return methods[method][point]


class Configuration(Settings):
    """``config/config.yaml``: which pairs and seeds to run, and where things lie."""

    pairs: tuple[Annotated[str, Field(pattern=r"^[a-z0-9-]+_[a-z0-9-]+$")], ...]
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field((1, 2, 3), min_length=1)
    results: Path = Path("results")
    data_root: Path | None = None
    checkpoint_root: Path | None = None


def load_experiment(path: Path) -> Experiment:
    """Read and check an experiment file.

    Raises
    ------
    ConfigurationError
        One line for everything that is wrong in it.
    """
    return _validated(Experiment, _read_yaml(path), path)


def load_configuration(*paths: Path) -> Configuration:
    """Read ``config.yaml`` and overlays; a later file's keys replace an earlier one's."""
    merged: dict[str, Any] = {}
    for path in paths:
        merged |= _read_yaml(path)
    return validate_configuration(merged, paths[-1])


def validate_configuration(values: dict[str, Any], source: Path | str) -> Configuration:
    """Check a configuration that is already read (Snakemake merges its own)."""
    return _validated(Configuration, values, source)


def validate_settings(kind: type[Settings], values: dict[str, Any], source: Path | str) -> Any:
    """Check one section that came from elsewhere than a whole file.

    Raises
    ------
    ConfigurationError
        One line for everything that is wrong in it.
    """
    return _validated(kind, values, source)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(Path(path).read_text())
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: there is no such file") from None
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" in line {where.line + 1}" if where else ""
        raise ConfigurationError(f"{path}: not valid YAML{line}") from None
    if not isinstance(values, dict):
        raise ConfigurationError(f"{path}: expected keys and values, found {type(values).__name__}")
    return values


def _validated(kind: type[Settings], values: dict[str, Any], source: Path | str) -> Any:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(_describe(kind, entry) for entry in error.errors())
        raise ConfigurationError(f"{source}: {problems}") from None


def _describe(kind: type[Settings], entry: dict[str, Any]) -> str:
    """Key, value and what is allowed, of one of pydantic's error records."""
    key = ".".join(str(part) for part in entry["loc"])
    if entry["type"] == "extra_forbidden":
        return f"unknown key {key!r}{_nearest(kind, entry['loc'])}"
    if entry["type"] == "missing":
        return f"{key!r} is missing"
    message = entry["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    return f"{key} = {entry['input']!r}: {message}"


def _nearest(kind: type[Settings], location: tuple) -> str:
    """'; did you mean …' where a known key of the same section is close."""
    import difflib

    section: Any = kind
    for part in location[:-1]:
        section = _section(section, part)
    fields = getattr(section, "model_fields", {})
    known = [f.alias or name for name, f in fields.items()]
    close = difflib.get_close_matches(str(location[-1]), known, 1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; allowed are {', '.join(known)}" if known else ""


def _section(kind: Any, part: Any) -> Any:
    """The settings class below a key, whatever optional or mapping stands between."""
    for name, field in getattr(kind, "model_fields", {}).items():
        if part in (name, field.alias):
            return _settings_class(field.annotation)
    return kind


def _settings_class(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        if (found := _settings_class(inner)) is not None:
            return found
    return None


def schemas() -> dict[str, dict[str, Any]]:
    """JSON schemas by file name, as they lie in ``workflow/schemas``."""
    return {
        "config.schema.json": Configuration.model_json_schema(),
        "experiment.schema.json": Experiment.model_json_schema(),
    }
