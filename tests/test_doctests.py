"""The examples in the docstrings of the prior are true."""

import doctest
import importlib
import pkgutil

import pytest

import sws.prior

MODULES = [m.name for m in pkgutil.iter_modules(sws.prior.__path__, "sws.prior.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_the_prior(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.failed == 0
    if name.rpartition(".")[2] in ("components", "hyper_priors", "mixture"):
        assert found.attempted > 0
