import json
import math
import shutil

import numpy as np
import pytest
from fabricated_runs import fabricate

from sws.report import equivalence, reproduction, verdicts
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


def test_the_same_files_are_reported_first_and_need_no_statistics(new, reference, tmp_path):
    comparison = reproduction.build(new, reference, tmp_path / "out")
    assert comparison.reproduces
    assert {line.verdict for line in comparison.lines} == {"identical"}
    text = comparison.to_text()
    assert text.startswith("Bytes: 9 of 9 files that both have are identical.")
    assert "Reproduces: all 8 numbers." in text
    header, *lines = (tmp_path / "out/comparison.csv").read_text().splitlines()
    assert len(lines) == 8
    assert header.startswith("model,dataset,method,point,measure,new")
    assert (tmp_path / "out/comparison.txt").read_text() == text


def test_a_file_that_differs_is_named(new, reference):
    path = CASE.folder(new, 1) / "model.sws"
    path.write_bytes(path.read_bytes()[:-1])
    comparison = reproduction.build(new, reference)
    assert "8 of 9 files" in comparison.to_text()
    assert "soft-weight-sharing/main: seed-1/model.sws differ" in comparison.to_text()
    assert "identical" not in {line.verdict for line in comparison.lines}


def test_a_worse_error_differs(new, reference):
    for seed in range(3):
        change(new, seed, lambda m: m.update(error_end_pct=m["error_end_pct"] + 1.0))
    comparison = reproduction.build(new, reference)
    line = by_measure(comparison)["error_end_pct"]
    assert line.verdict == "different"
    assert line.difference == pytest.approx(1.0)
    assert 0.1 < line.lower < line.difference < line.upper
    assert line.paper_verdict == "worse"
    assert by_measure(comparison)["error_start_pct"].verdict == "identical"
    assert not comparison.reproduces
    assert "Differs: 1 of 8 numbers" in comparison.to_text()


def test_one_seed_is_told_to_be_too_few(new, reference):
    for seed in (1, 2):
        shutil.rmtree(CASE.folder(new, seed))
    change(new, 0, lambda m: m.update(error_end_pct=m["error_end_pct"] + 0.15))
    comparison = reproduction.build(new, reference)
    line = by_measure(comparison)["error_end_pct"]
    assert (line.new_seeds, line.reference_seeds, line.new_sd) == (1, 3, None)
    assert line.verdict == "cannot tell"
    assert "cannot tell with 1" in comparison.to_text()
    assert comparison.reproduces  # nothing was found to differ
    # t(0.975, 2) = 4.303, times s·√(1/1 + 1/3) of the reference alone
    assert line.upper - line.lower == pytest.approx(
        2 * 4.303 * line.reference_sd * (4 / 3) ** 0.5, rel=1e-3
    )


def test_margins_can_be_chosen(new, reference):
    for seed in range(3):
        change(new, seed, lambda m: m.update(error_end_pct=m["error_end_pct"] + 0.3))
    strict = reproduction.build(new, reference, margins=reproduction.Margins(points=0.01))
    loose = reproduction.build(new, reference, margins=reproduction.Margins(points=1.0))
    assert by_measure(strict)["error_end_pct"].verdict == "different"
    assert by_measure(loose)["error_end_pct"].verdict == "same"


def test_sizes_are_compared_by_their_share(new, reference):
    for seed in range(3):
        change(new, seed, lambda m: m["bytes"].update(file=round(1.2 * m["bytes"]["file"])))
    line = by_measure(reproduction.build(new, reference))["file_bytes"]
    assert line.difference == pytest.approx(20, abs=0.1)
    assert line.margin == pytest.approx(5)
    assert line.verdict == "different"


def test_han_against_the_paper_is_better_and_not_no_different():
    """98 ± 4 on five seeds beside 64: what an interval of ±40 once called the same."""
    ours = [94.0, 96.0, 98.0, 100.0, 102.0]
    logs = [math.log(value) for value in ours]
    beside = equivalence.difference(logs, [math.log(64)])
    assert equivalence.judge(beside, math.log(1.05), 0.95) == "different"


def test_welch_and_pooled_by_hand():
    from scipy import stats

    a, b = [1.0, 1.2, 1.1], [1.3, 1.7, 1.5, 1.5]
    for equal_var, spread in ((False, None), (True, equivalence.pooled([a, b]))):
        interval = stats.ttest_ind(a, b, equal_var=equal_var).confidence_interval(0.99)
        found = equivalence.difference(a, b, spread).interval(0.99)
        assert found == pytest.approx((interval.low, interval.high))


def test_variances_that_differ_are_not_pooled():
    rng = np.random.default_rng(0)
    quiet = [list(rng.normal(0, 0.01, 5)) for _ in range(6)]
    loud = [list(rng.normal(0, 1, 5)) for _ in range(6)]
    assert equivalence.pooled(quiet).groups == 6
    assert equivalence.pooled(quiet + loud) is None


@pytest.mark.filterwarnings("error")
def test_groups_of_two_values_are_pooled_if_they_spread_alike():
    alike = equivalence.pooled([[1.0, 3.0], [5.0, 7.0]])
    assert (alike.variance, alike.freedom) == (2.0, 2)
    assert equivalence.pooled([[1.0, 1.001], [5.0, 700.0]]) is None
    assert equivalence.pooled([[1.0, 1.0], [2.0, 3.0]]) is None
    assert equivalence.pooled([[1.0], [2.0]]) is None


@pytest.mark.parametrize("deviations", [(0.1, 0.1), (0.05, 0.2)], ids=["alike", "unlike"])
@pytest.mark.parametrize("seeds", [(3, 5), (5, 5)])
def test_error_rates_of_both_kinds(deviations, seeds):
    """Simulated: 12 cases of a pair on two sides, errors in points, a margin of 0.1.

    At a confidence of 0.95, a difference at the very margin may be called the same, or different,
    in one case of 40 each; one of 0 may hardly ever be called different, and one of 0.6 points,
    six margins, must not pass as the same and mostly not go unnoticed.
    """
    rng = np.random.default_rng(7)
    rounds, counts = 200, {}
    scales = np.where(np.arange(12) % 2, *deviations)
    for true in (0.0, 0.1, 0.6):
        verdicts = []
        for _ in range(rounds):
            new = [rng.normal(1.5 + true, s, seeds[0]) for s in scales]
            old = [rng.normal(1.5, s, seeds[1]) for s in scales]
            spread = equivalence.pooled([*new, *old])
            case = rng.integers(12)
            found = equivalence.difference(list(new[case]), list(old[case]), spread)
            verdicts.append(equivalence.judge(found, 0.1, 0.95, numbers=12))
        counts[true] = {v: verdicts.count(v) / rounds for v in set(verdicts)}
    assert counts[0.0].get("different", 0) <= 0.01
    assert counts[0.1].get("different", 0) <= 0.02
    assert counts[0.1].get("same", 0) <= 0.05
    assert counts[0.6].get("same", 0) == 0
    if deviations == (0.1, 0.1):
        assert counts[0.6]["different"] > 0.9


def test_the_former_tolerance_would_have_called_these_the_same():
    """Ours beside the reference: 1.30 ± 0.10 against 1.55 ± 0.10, with the power of 14 cases."""
    rng = np.random.default_rng(3)
    cases = [list(rng.normal(1.5, 0.1, 5)) for _ in range(14)]
    new, old = [1.2, 1.3, 1.4], [1.65, 1.7, 1.75, 1.6, 1.8]
    spread = equivalence.pooled([*cases, new, old])
    assert (
        equivalence.judge(equivalence.difference(new, old, spread), 0.1, 0.95, 100) == "different"
    )


def test_a_ratio_is_compared_with_what_the_paper_counts_alike(new, reference):
    lines = by_measure(reproduction.build(new, reference))
    assert lines["cr_han"].paper == 64
    for name in ("cr_nonzero", "cr_huffman", "cr_file"):
        assert lines[name].paper is None
        assert lines[name].paper_verdict == ""
    assert lines["cr_han"].paper_lower < lines["cr_han"].paper_upper


@pytest.mark.parametrize("case", [("network-surgery", "main"), ("soft-weight-sharing", "small")])
def test_what_the_paper_does_not_report_is_not_compared_with_it(tmp_path, case):
    for side in ("new", "old"):
        for seed in range(2):
            fabricate(tmp_path / side, *LENET, *case, seed=seed, scale=10, epochs=4)
    comparison = reproduction.build(tmp_path / "new", tmp_path / "old")
    assert {line.paper for line in comparison.lines} == {None}


def test_cases_of_one_side_are_listed_in_a_line_and_do_not_count(new, reference):
    fabricate(new, *LENET, "no-prior", scale=10, epochs=4)
    comparison = reproduction.build(new, reference)
    assert comparison.reproduces
    last = comparison.to_text().splitlines()[-1]
    assert last == "Not compared: lenet-300-100_mnist/no-prior/main (new only)."


def test_nothing_to_compare(new, reference, tmp_path):
    with pytest.raises(ResultsError, match="no finished run"):
        reproduction.build(tmp_path / "nowhere", reference)
    fabricate(tmp_path / "other", "lenet-5-caffe", "mnist", scale=10, epochs=4)
    with pytest.raises(ResultsError, match="no case in common"):
        reproduction.build(tmp_path / "other", reference)
    with pytest.raises(ResultsError, match="confidence"):
        reproduction.build(new, reference, confidence=99)
    with pytest.raises(ResultsError, match="margins"):
        reproduction.build(new, reference, margins=reproduction.Margins(points=0))


# --- the rule of table 1's sentence ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "theirs", "expected"),
    [
        ([97.0, 105.0, 88.0, 101.0, 95.0], 64.0, "better"),
        ([97.0, 105.0, 88.0, 101.0, 95.0], 97.0, "cannot tell"),
        ([64.1, 64.0, 63.9, 64.2, 64.0], 64.0, "same"),
        ([40.0, 41.0, 39.0, 40.5, 40.2], 64.0, "worse"),
        ([97.0], 64.0, "cannot tell"),
    ],
)
def test_a_ratio_beside_a_published_one(own, theirs, expected):
    measure = verdicts.MEASURES["cr_han"]
    scaled = [verdicts.scaled(side, measure) for side in (own, [theirs])]
    margin = verdicts.Margins().of(measure)
    assert verdicts.against_paper(equivalence.difference(*scaled), measure, margin) == expected
