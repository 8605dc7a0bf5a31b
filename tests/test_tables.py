import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fabricated_runs import fabricate

from sws.config import methods
from sws.report import layers, table, table1, tables
from sws.runs import published, records
from sws.runs.records import Case, ResultsError, Run
from sws.runs.seeds import missing_seeds, over_seeds

LENET = ("lenet-300-100", "mnist")
CAFFE = ("lenet-5-caffe", "mnist")
CIFAR = ("wrn-16-4", "cifar-10")
POINTS = [("soft-weight-sharing", "main"), ("deep-compression", "main")]


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """LeNet-300-100 on three seeds, one run of a rival; LeNet-5 misses seed 2; no CIFAR."""
    folder = tmp_path_factory.mktemp("results")
    for seed in range(3):
        fabricate(folder, *LENET, seed=seed, scale=10)
    fabricate(folder, *LENET, method="deep-compression", seed=0, scale=10)
    for seed in range(2):
        fabricate(folder, *CAFFE, seed=seed, scale=10)
    return folder


@pytest.fixture(scope="module")
def written(results, tmp_path_factory) -> dict[str, str]:
    output = tmp_path_factory.mktemp("tables")
    paths = tables.build(
        results, output, [LENET, CAFFE, CIFAR], [0, 1, 2], POINTS, missing_data=[CIFAR]
    )
    assert sorted(path.name for path in output.iterdir()) == sorted(path.name for path in paths)
    return {path.name: path.read_text(encoding="utf-8") for path in paths}


@pytest.fixture(scope="module")
def rows(written) -> dict[tuple, dict[str, str]]:
    parsed = list(csv.DictReader(written["table1.csv"].splitlines()))
    keyed = {tuple(row[name] for name in table1.KEY): row for row in parsed}
    assert len(keyed) == len(parsed), "the key repeats"
    return keyed


def rows_of(text) -> list[list[str]]:
    """Cells of the rows of a Markdown table, without the rule."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]


def metrics(results, pair, method, seed):
    path = Case(*pair, method, "main").folder(results, seed) / "metrics.json"
    return json.loads(path.read_text())


def test_columns_are_the_contract(written):
    header = written["table1.csv"].splitlines()[0].split(",")
    assert header[:7] == [*table1.KEY, "status", "seeds"]
    assert table1.KEY == ("source", "model", "dataset", "method", "point")
    assert {"error_start_sd", "delta_pct", "cr_file_sd", "file_bytes_sd", "paper_cr"} < {*header}


def test_means_and_deviations(results, rows):
    row = rows["measured", *LENET, "soft-weight-sharing", "main"]
    assert (row["status"], row["seeds"], row["seeds_missing"]) == ("ok", "3", "")
    ratios = [metrics(results, LENET, "soft-weight-sharing", s)["cr"]["file"] for s in range(3)]
    mean = sum(ratios) / 3
    assert float(row["cr_file"]) == pytest.approx(mean)
    deviation = (sum((r - mean) ** 2 for r in ratios) / 2) ** 0.5
    assert float(row["cr_file_sd"]) == pytest.approx(deviation)
    change = float(row["error_end_pct"]) - float(row["error_start_pct"])
    assert float(row["delta_pct"]) == pytest.approx(change)


def test_one_seed_has_no_deviation(rows):
    row = rows["measured", *LENET, "deep-compression", "main"]
    assert row["seeds"] == "1"
    assert row["error_end_pct"]
    assert row["error_end_sd"] == row["cr_file_sd"] == row["file_bytes_sd"] == ""
    assert row["seeds_missing"] == "1 2"


def test_missing_runs_show(rows, written):
    partial = rows["measured", *CAFFE, "soft-weight-sharing", "main"]
    assert (partial["status"], partial["seeds"], partial["seeds_missing"]) == ("ok", "2", "2")
    absent = rows["measured", *CAFFE, "deep-compression", "main"]
    assert (absent["status"], absent["seeds"], absent["cr_file"]) == ("not run", "0", "")
    assert rows["measured", *CIFAR, "soft-weight-sharing", "main"]["status"] == "no data"
    told = {row[1].strip("*") for row in rows_of(written["table1.md"])}
    assert {"2 of 3", "not run", "no data"} < told
    for shown in (r"\textbf{2 of 3}", "not run", r"\textbf{no data}"):  # our main point is in bold
        assert f"& {shown} &" in written["table1.tex"]


def test_paper_stands_beside_the_measured_row(rows):
    def paper(row):
        names = ("error_start", "error_end", "nonzero_pct", "cr")
        return [float(row[f"paper_{name}"]) for name in names]

    assert paper(rows["measured", *LENET, "soft-weight-sharing", "main"]) == [1.89, 1.94, 4.3, 64]
    assert paper(rows["measured", *CAFFE, "soft-weight-sharing", "main"]) == [0.88, 0.97, 0.5, 162]
    assert paper(rows["measured", *CIFAR, "soft-weight-sharing", "main"]) == [6.48, 8.5, 6.6, 45]
    assert paper(rows["measured", *LENET, "deep-compression", "main"]) == [1.64, 1.58, 8.0, 40]


def test_published_ratios_stay_out_of_our_columns(rows):
    literature = [row for key, row in rows.items() if key[0] == "published"]
    assert {row["model"] for row in literature} == {LENET[0], CAFFE[0], CIFAR[0]}
    assert not any(row["cr_file"] or row["cr_huffman"] or row["cr_nonzero"] for row in literature)
    guo = next(r for r in literature if "Guo" in r["method"] and r["model"] == LENET[0])
    assert (guo["paper_cr"], guo["ratio_class"]) == ("56", "COUNT")


def test_a_published_ratio_stands_in_the_column_that_counts_alike(written):
    head, ours, paper, *_ = rows_of(written["table1.md"].split("## ")[1])
    assert ours[0] == "**Soft weight-sharing**"
    assert paper[0].startswith("Ullrich 2017")
    filled = {name for name, cell in zip(head, paper, strict=True) if cell}
    assert {name for name in filled if name.startswith("CR")} == {"CR Han"}
    assert paper[head.index("CR Han")] == "64.0"
    (guo,) = [row for row in rows_of(written["table1.md"].split("## ")[1]) if "Guo" in row[0]]
    assert guo[head.index("CR non-zero")] == "56.0"
    assert guo[head.index("CR Han")] == ""
    (values,) = [row for row in rows_of(written["table1.md"]) if "[1,910 VALUES]" in row[0]]
    assert not any(values[i] for i, name in enumerate(head) if name.startswith("CR"))


def test_the_verdict_weighs_ratio_and_rise(results, written):
    literature = published.read()
    runs = records.read_runs(results, Case(*LENET, "soft-weight-sharing", "main"), [0, 1, 2])
    said = table1.verdict(runs, literature)
    assert said.startswith("Soft weight-sharing: the paper's ratio and rise of the error")
    assert said in " ".join(written["table1.md"].split())
    assert "64.0 in Ullrich 2017" in said
    worse = [Run(r.case, r.seed, r.folder, dict(r.metrics) | {"error_end_pct": 9.0}) for r in runs]
    assert "are not reached" in table1.verdict(worse, literature)
    small = Case(*LENET, "soft-weight-sharing", "small")
    other = [Run(small, r.seed, r.folder, r.metrics) for r in runs]
    assert table1.verdict(other, literature) == table1.verdict([], literature) == ""


def test_a_page_shows_what_the_markdown_shows(written):
    for name in ("table1", "layers"):
        page = written[f"{name}.html"]
        shown = [
            [re.sub("<.*?>", "", cell) for cell in re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row)]
            for row in re.findall(r"<tr.*?>(.*?)</tr>", page)
        ]
        told = [row if "*Publ" not in row[0] else row[:1] for row in rows_of(written[f"{name}.md"])]
        assert [[cell.strip("*") for cell in row] for row in told] == shown
        assert page.index("<p>") < page.index("<table>"), "the caption comes first"


def test_lines_of_markdown_fit_a_screen(written):
    for name in ("table1.md", "layers.md"):
        for line in written[name].splitlines():
            assert line.startswith("|") or len(line) <= 100, line


def test_a_cell_cannot_break_a_table():
    block = table.Block("", ["a", "b"], [table.Line(["<i> & | 5 %", "1_0"], strong=True)])
    made = table.Table("x", "X", "Caption.", ["a"], [{"a": 1}], [block])
    assert made.to_markdown().splitlines()[-1] == r"| **<i> & \| 5 %** | **1_0** |"
    assert "<td>&lt;i&gt; &amp; | 5 %</td>" in made.to_html()
    assert r"\textbf{<i> \& | 5 \%} & \textbf{1\_0} \\" in made.to_latex()


def test_smoke_data_set_has_no_paper(tmp_path):
    fabricate(tmp_path, "lenet-300-100", "mnist-smoke", scale=10)
    (row,) = table1.rows(
        tmp_path, [("lenet-300-100", "mnist-smoke")], [0], literature=published.read()
    )
    assert row["status"] == "ok"
    assert row["paper_cr"] is None


def test_points_by_pair():
    points = {LENET: [("soft-weight-sharing", "small")]}
    assert [str(case) for case in records.cases([LENET, CAFFE], points)] == [
        "lenet-300-100_mnist/soft-weight-sharing/small"
    ]


def test_latex_is_well_formed(written):
    tex = written["table1.tex"]
    body = [line for line in tex.splitlines() if line.endswith(r"\\")]
    widths = {line.count(" & ") for line in body if "multicolumn" not in line}
    assert widths == {tex.split(r"\begin{tabular}{")[1].split("}")[0].count("r")}
    assert tex.count("{") == tex.count("}")
    assert not {"±", "−", "–", "†"} & {*tex}
    assert all(line.count("%") == line.count(r"\%") for line in tex.splitlines()[1:])


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(written, tmp_path):
    head = r"\documentclass[twocolumn]{article}\usepackage{booktabs}\begin{document}"
    source = head + written["table1.tex"] + r"\end{document}"
    (tmp_path / "t.tex").write_text(source, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    subprocess.run(command, check=True, cwd=tmp_path, stdout=subprocess.DEVNULL)


def test_layers_add_up_to_the_files(results, written):
    parsed = list(csv.DictReader(written["layers.csv"].splitlines()))
    wanted = (LENET[0], POINTS[0][0], "0")
    first = [row for row in parsed if (row["model"], row["method"], row["seed"]) == wanted]
    total = sum(float(row["bits"]) for row in first)
    size = metrics(results, LENET, "soft-weight-sharing", 0)["bytes"]["file"]
    assert total == 8 * size
    for row in first:
        parts = sum(float(row[f"bits_{part}"]) for part in layers.PARTS)
        assert parts == float(row["bits"])
    weights = {row["layer"]: row for row in first}
    assert weights["fc1.weight"]["shape"] == "30×784"
    assert float(weights["fc1.weight"]["nonzero_pct"]) == pytest.approx(3, abs=0.1)
    assert "fc1.weight" in written["layers.md"]


def test_damaged_files_are_named(results, tmp_path):
    fabricate(tmp_path, *LENET, scale=10)
    folder = Case(*LENET, "soft-weight-sharing", "main").folder(tmp_path, 0)
    good = (folder / "metrics.json").read_text()
    for text, told in (("{", "not valid JSON"), ('{"cr": {}}', "lacks"), ("[]", "lacks")):
        (folder / "metrics.json").write_text(text)
        with pytest.raises(ResultsError, match=told) as caught:
            tables.build(tmp_path, tmp_path / "t", [LENET], [0])
        assert "\n" not in str(caught.value)
    (folder / "metrics.json").write_text(good.replace('"seed": 0', '"seed": 7'))
    with pytest.raises(ResultsError, match="move it back"):
        tables.build(tmp_path, tmp_path / "t", [LENET], [0])
    (folder / "metrics.json").write_text(good)
    data = (folder / "model.sws").read_bytes()
    (folder / "model.sws").write_bytes(data[: len(data) // 2])
    with pytest.raises(ResultsError, match=r"model\.sws"):
        tables.build(tmp_path, tmp_path / "t", [LENET], [0])
    assert not list(tmp_path.glob("t/*")), "half a table was written"


def test_nothing_to_tabulate(tmp_path):
    with pytest.raises(ResultsError, match="no pairs"):
        tables.build(tmp_path, tmp_path / "t", [], [0])


def test_published_facts_keep_their_network():
    rows = published.read()
    models = {row.model for row in rows}
    assert models == {"lenet-300-100", "lenet-5-caffe", "wrn-16-4", "vgg-16"}
    assert all(row.ratio_class in published.RATIO_CLASSES or row.ratio is None for row in rows)
    paper = methods.spec("soft-weight-sharing").paper
    assert published.counterpart(rows, CAFFE, paper).ratio == 162
    assert published.counterpart(rows, CAFFE, methods.spec("no-prior").paper) is None


def test_numbers_have_sensible_digits():
    assert table.number(None) == "–"
    assert table.number(1.9449, 0.0312, 2) == "1.94 ± 0.03"
    assert table.number(124.26) == "124.3"
    assert table.number(8551.3, 12.7) == "8,551 ± 13"


def test_reading_results_needs_no_torch():
    code = "import sys, sws.report.tables, sws.report.figures, sws.report.reproduction\n"
    code += "import sws.study.publish, sws.report.coders, sws.report.costs\n"
    code += "from sws.codec import rates; from sws import codec\n"
    code += "assert 'torch' not in sys.modules"
    root = Path(tables.__file__).parents[1]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


def test_seeds_are_averaged_in_one_way():
    assert over_seeds([1, 2, None, 6]) == (3.0, pytest.approx(7**0.5), 3)
    assert over_seeds([4.0]) == (4.0, None, 1)
    assert over_seeds([]) == over_seeds([None]) == (None, None, 0)
    assert missing_seeds([3, 1, 2], {1}) == [3, 2]
