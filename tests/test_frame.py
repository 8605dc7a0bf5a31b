"""All runs as one data frame."""

import csv
import re
from pathlib import Path

import pytest
from fabricated_runs import fabricate

import sws
from sws.runs.records import ResultsError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def runs():
    return sws.results(ROOT / "results" / "reference")


def test_the_means_of_the_reference_are_those_of_its_table(runs):
    rows = runs.groupby(["model", "dataset", "method", "point"])
    path = ROOT / "results" / "reference" / "tables" / "baselines" / "table1.csv"
    with path.open(newline="", encoding="utf-8") as file:
        table = [row for row in csv.DictReader(file) if row["source"] == "measured"]
    compared = 0
    for row in table:
        key = tuple(row[name] for name in ("model", "dataset", "method", "point"))
        if row["status"] == "ok" and key in rows.groups:
            own = rows.get_group(key)
            assert len(own) == int(row["seeds"])
            assert own["error_end_pct"].mean() == pytest.approx(float(row["error_end_pct"]))
            assert own["cr.file"].mean() == pytest.approx(float(row["cr_file"]))
            compared += 1
    assert compared > 20


def test_every_file_is_as_large_as_its_row_says(runs):
    for row in runs.itertuples():
        assert Path(row.folder, "model.sws").stat().st_size == runs.at[row.Index, "bytes.file"]


def test_fields_that_a_method_lacks_are_missing(runs):
    methods = runs[runs["dataset"] == "mnist"].groupby("method")["seconds.prior"]
    measured = methods.agg(lambda column: column.notna().all())
    missing = methods.agg(lambda column: column.isna().all())
    assert measured["soft-weight-sharing"] and measured["spike-slab"]
    assert missing["deep-compression"] and missing["network-surgery"]


def test_rows_are_sorted_by_case_and_seed(tmp_path):
    for seed in (10, 2):
        fabricate(tmp_path, "lenet-300-100", "mnist", seed=seed, scale=10, epochs=2)
    fabricate(tmp_path, "lenet-300-100", "mnist", "deep-compression", "main", 1, scale=10, epochs=2)
    found = sws.results(str(tmp_path))
    assert found["method"].tolist() == ["deep-compression", *["soft-weight-sharing"] * 2]
    assert found["seed"].tolist() == [1, 2, 10]


def test_a_folder_without_runs_says_so(tmp_path):
    with pytest.raises(ResultsError, match="no finished run"):
        sws.results(tmp_path)


def test_the_example_of_the_page_runs(monkeypatch):
    text = (ROOT / "docs" / "running.md").read_text(encoding="utf-8")
    (code,) = (c for c in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "results(" in c)
    monkeypatch.chdir(ROOT)
    exec(compile(code, "running.md", "exec"), {})
