"""What a result was computed with: versions of what is installed, and the machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import tomllib
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent
CHECKOUT = PACKAGE.parent
"""The folder that holds the package: a clone of the repository, unless it is installed."""

PACKAGES = ("torch", "torchvision", "numpy", "numba", "safetensors", "snakemake")


def versions() -> dict[str, str]:
    """Versions of Python, this package and those that a result depends on; imports none of them."""
    found = {"python": platform.python_version(), "sws": version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def version() -> str:
    """Version of this package, installed or run from its checkout."""
    project = CHECKOUT / "pyproject.toml"
    if project.is_file():
        return tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"]
    return importlib.metadata.version(PACKAGE.name)


def device_description(device: str) -> dict[str, Any]:
    found: dict[str, Any] = {"type": device.partition(":")[0], "cpu": _cpu_model()}
    found |= {"cores": os.cpu_count(), "system": platform.system(), "machine": platform.machine()}
    if found["type"] == "cuda":
        import torch

        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
