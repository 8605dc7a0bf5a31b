import json
import shutil

import pytest
from fabricated_runs import fabricate

from sws.report import reproduction, verdicts
from sws.runs.records import Case, ResultsError

LENET = ("lenet-300-100", "mnist")
CASE = Case(*LENET, "soft-weight-sharing", "main")


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    for seed in range(3):
        fabricate(folder, *LENET, seed=seed, scale=10, epochs=4)
    return folder


@pytest.fixture
def new(reference, tmp_path):
    shutil.copytree(reference, tmp_path / "new")
    return tmp_path / "new"


def change(results, seed, edit):
    path = CASE.folder(results, seed) / "metrics.json"
    metrics = json.loads(path.read_text())
    edit(metrics)
    path.write_text(json.dumps(metrics))


def by_measure(comparison):
    return {line.measure: line for line in comparison.lines}


def test_the_same_run_reproduces(new, reference, tmp_path):
    comparison = reproduction.build(new, reference, tmp_path / "out")
    assert comparison.reproduces
    assert {line.verdict for line in comparison.lines} == {"reproduces"}
    assert "all 8 numbers agree" in comparison.to_text()
    header, *lines = (tmp_path / "out/comparison.csv").read_text().splitlines()
    assert len(lines) == 8
    assert header.startswith("model,dataset,method,point,measure,new")
    assert (tmp_path / "out/comparison.txt").read_text() == comparison.to_text()


def test_a_worse_error_differs(new, reference):
    for seed in range(3):
        change(new, seed, lambda m: m.update(error_end_pct=m["error_end_pct"] + 1.0))
    comparison = reproduction.build(new, reference)
    lines = by_measure(comparison)
    assert lines["error_end_pct"].verdict == "differs"
    assert lines["error_end_pct"].difference == pytest.approx(1.0)
    assert lines["error_end_pct"].paper_verdict == "worse"
    assert lines["error_start_pct"].verdict == "reproduces"
    assert not comparison.reproduces
    assert "1 of 8 numbers are out of tolerance" in comparison.to_text()


def test_one_seed_borrows_the_other_side(new, reference):
    for seed in (1, 2):
        shutil.rmtree(CASE.folder(new, seed))
    line = by_measure(reproduction.build(new, reference))["error_end_pct"]
    assert (line.new_seeds, line.reference_seeds, line.new_sd) == (1, 3, None)
    # eight numbers at 99 % together: t(1 − 0.01/16, 2) = 28.26, times s·√(1/1 + 1/3)
    assert line.tolerance == pytest.approx(28.26 * line.reference_sd * (4 / 3) ** 0.5, rel=1e-3)


def test_one_seed_on_both_sides_has_a_fallback():
    measure = verdicts.MEASURES["error_end_pct"]
    assert verdicts.tolerance([1.9], [1.95], measure) == pytest.approx(
        2.576 * 0.1 * 2**0.5, rel=1e-3
    )
    rate = verdicts.MEASURES["cr_file"]
    assert verdicts.tolerance([100.0], [100.0], rate) == pytest.approx(2.576 * 5 * 2**0.5, rel=1e-3)


def test_welch_tolerance_by_hand():
    a, b = [1.0, 1.2, 1.1], [1.3, 1.7, 1.5, 1.5]
    measure = verdicts.MEASURES["error_end_pct"]
    from scipy import stats

    interval = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.99)
    half = (interval.high - interval.low) / 2
    assert verdicts.tolerance(a, b, measure) == pytest.approx(half)


def test_no_spread_falls_to_the_floor():
    measure = verdicts.MEASURES["error_end_pct"]
    assert verdicts.tolerance([1.9, 1.9], [1.9, 1.9], measure) == measure.floor


def test_a_ratio_is_compared_with_what_the_paper_counts_alike(new, reference):
    lines = by_measure(reproduction.build(new, reference))
    assert lines["cr_han"].paper == 64
    for name in ("cr_nonzero", "cr_huffman", "cr_file"):
        assert lines[name].paper is None
        assert lines[name].paper_verdict == ""
    assert lines["cr_han"].paper_tolerance > 0


@pytest.mark.parametrize("case", [("network-surgery", "main"), ("soft-weight-sharing", "small")])
def test_what_the_paper_does_not_report_is_not_compared_with_it(tmp_path, case):
    for side in ("new", "old"):
        for seed in range(2):
            fabricate(tmp_path / side, *LENET, *case, seed=seed, scale=10, epochs=4)
    comparison = reproduction.build(tmp_path / "new", tmp_path / "old")
    assert {line.paper for line in comparison.lines} == {None}


def test_cases_of_one_side_are_listed_and_do_not_count(new, reference):
    fabricate(new, *LENET, "no-prior", scale=10, epochs=4)
    comparison = reproduction.build(new, reference)
    assert comparison.reproduces
    assert "run on one side only: lenet-300-100_mnist/no-prior/main" in comparison.to_text()


def test_nothing_to_compare(new, reference, tmp_path):
    with pytest.raises(ResultsError, match="no finished run"):
        reproduction.build(tmp_path / "nowhere", reference)
    fabricate(tmp_path / "other", "lenet-5-caffe", "mnist", scale=10, epochs=4)
    with pytest.raises(ResultsError, match="no case in common"):
        reproduction.build(tmp_path / "other", reference)
    with pytest.raises(ResultsError, match="confidence"):
        reproduction.build(new, reference, confidence=99)
