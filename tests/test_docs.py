"""The pages say what the runs say, lead where they promise, and name commands that exist."""

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest

import sws
from sws.cli import comparison, files, prior, stages, study

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs"))
import readme  # noqa: E402 (docs/ is no package)

WIDTH = 100
WORN = (
    "line an epoch",
    "epoch a line",
    "handed in again",
    "wants a GPU",
    "who belongs to whom",
    "what was stopped and goes on",
)
"""Wordings that readers stumbled over; this file is the only one that may hold them."""
TEXT = {".md", ".py", ".yaml", ".yml", ".toml", ".smk", ".rst", ".cff"}


def tracked():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a checkout", allow_module_level=True)
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def written_by_hand(path):
    return path.suffix == ".md" and "tables" not in path.relative_to(ROOT).parts


PAGES = [path for path in tracked() if written_by_hand(path)]
NAMES = [str(path.relative_to(ROOT)) for path in PAGES]


def prose(text):
    """(number, line) outside code blocks and tables."""
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and not line.lstrip().startswith("|"):
            yield number, line


@pytest.fixture(scope="module")
def reference():
    return readme.runs()


def mean(reference, model, method, name, field):
    rows = reference[(reference["model"] == model) & (reference["method"] == method)]
    return rows[rows["point"] == name][field].mean()


# --- numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", readme.PAGES)
def test_tables_are_those_of_the_reference_runs(page, reference):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert text == readme.rewritten(page, reference), "run 'make readme'"


def test_the_published_table_has_the_same_means(reference):
    table = pd.read_csv(ROOT / "results/reference/tables/baselines/table1.csv")
    rows = table[(table["source"] == "measured") & (table["status"] == "ok")]
    checked = 0
    for row in rows.itertuples():
        if row.point.endswith("-before-sharing"):
            continue
        for column, field in (("error_end_pct", "error_end_pct"), ("cr_file", "cr.file")):
            found = mean(reference, row.model, row.method, row.point, field)
            assert getattr(row, column) == pytest.approx(found, abs=0.006), row
            checked += 1
    assert checked > 60


def test_numbers_in_the_text_of_the_readme(reference):
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    small = {
        field: mean(reference, "lenet-5-caffe", "soft-weight-sharing", "small", field)
        for field in ("cr.han", "nonzero_pct", "error_end_pct")
    }
    paired = reference[(reference["model"] == "lenet-5-caffe") & (reference["point"] == "main")]
    by_seed = paired.pivot(index="seed", columns="method", values="error_end_pct")
    more = by_seed["no-prior"] - by_seed["soft-weight-sharing"]
    vgg = {
        field: mean(reference, "vgg-16", "soft-weight-sharing", "main", field)
        for field in ("cr.file", "error_end_pct", "seconds.prior", "seconds.retrain")
    }
    lenet = {
        field: mean(reference, "lenet-300-100", "soft-weight-sharing", "main", field)
        for field in ("seconds.prior", "seconds.retrain")
    }
    for said in (
        f"Appendix A gives us {small['cr.han']:.0f}, not 162",
        f"{small['nonzero_pct']:.2f} % non-zero, {small['error_end_pct']:.2f} % error",
        f"{more.mean():.2f} ± {more.sem():.2f} points of error on LeNet-5-Caffe",
        f"where we have {vgg['cr.file']:.0f} at {vgg['error_end_pct']:.2f} %",
        f"{lenet['seconds.prior'] / lenet['seconds.retrain']:.0%}".replace("%", " %")
        + " of retraining for LeNet-300-100",
        f"{vgg['seconds.prior'] / vgg['seconds.retrain']:.0%}".replace("%", " %") + " for VGG-16",
    ):
        assert said in text


def test_published_numbers_in_the_text_of_the_readme():
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    rows = pd.read_csv(ROOT / "resources/published.csv")
    lowest = rows[rows["paper"] == "Havasi et al., MIRACLE (lowest error)"].set_index("model_id")
    lenet, vgg = lowest.loc["lenet-5-caffe"], lowest.loc["vgg-16"]
    assert f"ratio of {lenet['ratio']:.0f} at {lenet['error_end_pct']} % for LeNet-5" in text
    assert f"and {vgg['ratio']:.0f} at {vgg['error_end_pct']} % for VGG-16" in text


def test_defaults_that_the_readme_names():
    from sws.api import presets

    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    plain, tensor = (
        f"{presets.TAU_PER_IMAGE[unit]:.2g}".replace("e-0", "e-") for unit in ("weight", "tensor")
    )
    assert f"{plain} per training image" in text
    assert f"or {tensor} in units of tensors" in text


def test_lines_for_a_network_of_ones_own_run_as_they_stand(tmp_path, monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    (code,) = [block for block in blocks if "sws.compress" in block]
    for said, shorter in (
        ('load("mnist")', 'load("mnist-smoke")'),
        ("range(5)", "range(1)"),
        ("epochs=10", "epochs=2, progress=False"),
    ):
        assert code.count(said) == 1
        code = code.replace(said, shorter)
    monkeypatch.chdir(tmp_path)
    scope = {}
    exec(compile(code, "README.md", "exec"), scope)
    assert (tmp_path / "model.sws").stat().st_size < 79_510 * 4 / 5
    assert isinstance(scope["restored"], type(scope["model"]))


# --- form -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_lines_are_short(page):
    long = [n for n, line in prose(page.read_text(encoding="utf-8")) if len(line) > WIDTH]
    assert not long, f"longer than {WIDTH}: lines {long}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_to_files(page):
    text = "\n".join(line for _, line in prose(page.read_text(encoding="utf-8")))
    text += "\n".join(re.findall(r"^\|.*", page.read_text(encoding="utf-8"), re.MULTILINE))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        where, _, anchor = unquote(target).partition("#")
        goal = page.parent / where if where else page
        assert goal.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)", goal.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, target


def slug(heading):
    """The anchor that code hosts and the site give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_files_and_modules_that_pages_name_exist(page):
    text = page.read_text(encoding="utf-8")
    for path in re.findall(r"`((?:sws|config|docs|workflow|tests|resources)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path
    for name in re.findall(r"`(sws(?:\.[a-z_]\w*)+)(?:\.[A-Z]\w*)?`", text):
        module = ROOT.joinpath(*name.split("."))
        holder = module.parent.with_suffix(".py"), module.parent / "__init__.py"
        found = module.is_dir() or module.with_suffix(".py").is_file()
        assert found or any(module.name in h.read_text("utf-8") for h in holder if h.is_file()), (
            name
        )


def test_commands_that_pages_name_exist():
    known = {
        command.__name__.replace("_", "-")
        for module in (stages, files, study, comparison, prior)
        for command in module.COMMANDS
    }
    found = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        code = re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL)
        for block in code:
            found |= set(re.findall(r"(?:^|[\s/`])sws ([a-z][a-z-]+)\b", block, re.MULTILINE))
    assert found - {"command"} <= known
    assert {"compare", "inspect", "status", "tune"} <= found


def test_make_targets_that_pages_name_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for page in PAGES:
        named = re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text("utf-8"), re.MULTILINE)
        assert set(named) <= targets, page


def test_worn_phrases_are_gone():
    marks = str.maketrans("#/>*", "    ")  # so that a comment's second line continues its first
    found = {}
    for path in tracked():
        made = path.is_relative_to(ROOT / "results" / "reference") and path.suffix != ".md"
        if (
            (path.suffix in TEXT or path.name in ("Makefile", "Snakefile", "run"))
            and path != Path(__file__)
            and not made
        ):
            text = path.read_text(encoding="utf-8", errors="replace").lower().translate(marks)
            text = " ".join(text.split())
            said = [worn for worn in WORN if worn.lower() in text]
            if said:
                found[str(path.relative_to(ROOT))] = said
    assert not found


def test_public_names_are_in_the_reference():
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert "sws.api" in text and "sws.results" in text
    assert set(sws.__all__) == {
        "compress", "keep_zeros", "load", "save", "settings", "unfold", "results"
    }  # fmt: skip
    for package in ("prior", "methods"):
        for path in sorted((ROOT / "sws" / package).glob("[a-z]*.py")):
            assert f"automodule:: sws.{package}.{path.stem}\n" in text, path
