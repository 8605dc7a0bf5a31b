"""The study of the prior's cost: sizes, measurements on a small network, table and figure."""

import json

import pytest

from sws.measure import prior_cost
from sws.report import prior_study
from sws.runs.records import ResultsError
from sws.study.plan import PRIOR_CASES, PRIOR_ESTIMATORS


def test_cases_have_the_sizes_of_their_networks():
    sizes = {name: prior_cost.workload(name).weights for name in PRIOR_CASES}
    assert sizes == {
        "lenet-300-100": 266_200,
        "wrn-16-4": 2_745_264,
        "vgg-16": 14_977_728,
        "vgg-16-imagenet": 138_344_128,
    }
    assert prior_cost.workload("wrn-16-4").components == 64
    assert set(PRIOR_CASES) == set(prior_cost.WORKLOADS)
    assert set(PRIOR_ESTIMATORS) == set(prior_cost.ESTIMATORS)
    with pytest.raises(ValueError, match="no workload 'x'; choose one of lenet-300-100"):
        prior_cost.workload("x")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    results = tmp_path_factory.mktemp("results")
    for estimator in ("broadcast", "exact", "tabulated", "subsampled-10000"):
        found = prior_cost.measure("lenet-300-100", estimator, rounds=1)
        path = results / "studies" / "prior" / "lenet-300-100" / f"{estimator}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found))
    return results


def test_measurements_are_plausible(measured):
    found = {r["estimator"]: r for r in prior_study.rows(measured)}
    assert all(r["seconds"] > 0 for r in found.values())
    assert found["broadcast"]["speed_up"] == 1
    assert found["tabulated"]["speed_up"] > 1
    # a matrix of 266,200 × 17 in float32 is 17 MB, and the graph holds several
    assert found["broadcast"]["extra_memory_mb"] > 40
    assert found["exact"]["error_weights"] < 1e-5
    assert found["tabulated"]["error_weights"] < 1e-3
    assert found["tabulated"]["error_mixture"] < 1e-3
    # scaled by I/K = 26.6: one draw in 27 is there, and 27 times too large
    assert 2 < found["subsampled-10000"]["error_weights"] < 10


def test_table_and_figure(measured, tmp_path):
    lost = {"case": "vgg-16-imagenet", "estimator": "broadcast", "weights": 138_344_128}
    lost |= {"components": 17, "threads": 2, "seconds": None}
    path = measured / "studies" / "prior" / "vgg-16-imagenet" / "broadcast.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(lost))
    written = prior_study.build(measured, tmp_path)
    assert {p.name for p in written} == {
        "prior.csv", "prior.md", "prior.html", "fig10_prior.svg", "fig10_prior.png"
    }  # fmt: skip
    text = (tmp_path / "tables" / "studies" / "prior.md").read_text()
    assert "| vgg-16-imagenet: 138,344,128 × 17 | broadcast + autograd | out of memory |" in text
    assert "subsampled, K = 10,000" in text
    with pytest.raises(ResultsError, match="run 'snakemake studies'"):
        prior_study.rows(tmp_path / "nothing")


def test_what_does_not_fit_is_written_down(tmp_path, monkeypatch):
    """The limit is real: in a process of its own, allocations beyond it fail."""
    import subprocess
    import sys

    code = (
        "from pathlib import Path; from sws.measure import prior_cost; "
        f"prior_cost.build('wrn-16-4', 'broadcast', Path({str(tmp_path / 'x.json')!r}), 1.0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "x.json").read_text())
    assert found["seconds"] is None
    assert found["weights"] == 2_745_264
