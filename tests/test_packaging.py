"""pyproject.toml, environment.yml, requirements.lock and CITATION.cff say the same."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA_NAMES = {"matplotlib-base": "matplotlib", "snakemake-minimal": "snakemake"}
CONDA_NAMES |= {"pytorch": "torch"}


def required():
    extras = PROJECT["optional-dependencies"].values()
    listed = [*PROJECT["dependencies"], *(r for extra in extras for r in extra)]
    return {canonicalize_name(r.name): r for r in map(Requirement, listed)}


def locked():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return {canonicalize_name(r.name): r for r in map(Requirement, lines)}


def test_the_lock_holds_exact_versions_and_no_addresses():
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        assert re.fullmatch(
            r'[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+( ; platform_system == "Linux")?', line
        ), line


def test_the_lock_satisfies_the_project():
    pins = locked()
    for name, requirement in required().items():
        assert name in pins, f"{name} is not locked; run 'make lock'"
        (pin,) = pins[name].specifier
        assert requirement.specifier.contains(pin.version), f"{name}; run 'make lock'"


def test_only_packages_for_linux_are_marked():
    for name, requirement in locked().items():
        assert bool(requirement.marker) == name.startswith(("nvidia-", "cuda-", "triton")), name


def test_floors_admit_what_the_study_was_measured_with():
    assert required()["torch"].specifier.contains(Version("2.14.1"))
    assert not required()["torch"].specifier.contains(Version("2.8.0"))
    assert required()["snakemake"].specifier.contains(Version("9.19"))


def test_conda_asks_for_the_same_as_pip():
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pip = [name for entry in listed if isinstance(entry, dict) for name in entry["pip"]]
    plain = [entry for entry in listed if isinstance(entry, str) and entry != "pip"]
    found = {}
    for entry in [*plain, *pip]:
        requirement = Requirement(entry.replace(" ", ""))
        name = canonicalize_name(CONDA_NAMES.get(requirement.name, requirement.name))
        found[name] = str(requirement.specifier)
    assert found.pop("python") == PROJECT["requires-python"]
    assert found == {name: str(r.specifier) for name, r in required().items()}


def test_the_citation_has_the_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    assert citation["preferred-citation"]["year"] == 2017


@pytest.mark.parametrize("name", ["LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md"])
def test_people_find_what_they_look_for(name):
    assert (ROOT / name).read_text().strip()
