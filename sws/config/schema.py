"""How settings are read and checked: one line says all that is wrong, and what is allowed."""

from __future__ import annotations

import difflib
import hashlib
import json
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from sws.errors import SwsError


class ConfigurationError(SwsError, ValueError):
    """A configuration file is wrong; the message names file, key, value and what is allowed."""


class Settings(BaseModel):
    """Base of all sections: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def fingerprint(self) -> str:
        """SHA-256 over the section's values, defaults included."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode("utf-8")).hexdigest()


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping.

    Raises
    ------
    ConfigurationError
        If there is no such file, or it is not a mapping in valid YAML.
    """
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: there is no such file") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: not in UTF-8; save it in that encoding") from None
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" in line {where.line + 1}" if where else ""
        raise ConfigurationError(f"{path}: not valid YAML{line}") from None
    except ValueError as error:  # a number or a date that is none, or has thousands of digits
        raise ConfigurationError(f"{path}: not valid YAML ({error})") from None
    if not isinstance(values, dict):
        raise ConfigurationError(f"{path}: expected keys and values, found {type(values).__name__}")
    return values


def validated(kind: type[Settings], values: dict[str, Any], source: Path | str) -> Any:
    """Settings of a kind from plain values.

    Raises
    ------
    ConfigurationError
        One line for everything that is wrong, each with what is allowed.
    """
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
    if not key:  # sections that do not go together: the message names them
        return message
    return f"{key} = {entry['input']!r}: {message}"


def _nearest(kind: type[Settings], location: tuple) -> str:
    """'; did you mean …' where a known key of the same section is close."""
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
