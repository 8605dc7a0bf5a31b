"""The workflow: what a person types, what runs, and what runs again."""

import csv
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import browser
import pytest
import yaml
from checkout import EXPERIMENT, MNIST_SMOKE, ROOT, Checkout

from sws.config import methods
from sws.config.configuration import validate_configuration
from sws.config.experiment import load_experiment
from sws.report import figures
from sws.study.plan import FOLLOWING, FigureFile, Plan, split_pairs

pytestmark = pytest.mark.workflow

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
COMMANDS = {
    *("data", "pretrain", "compress", "profile", "tables", "figures", "costs", "coders"),
    *("prior-cost", "prior-study"),
}


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


# --- before anything runs -------------------------------------------------------------------------


def test_smoke_runs_every_stage_once_for_each_network(checkout):
    assert checkout.planned("smoke") == {
        "data": 1,
        "pretrain": 2,
        "compress": 9,  # every method on the one, those that convolutions concern on the other
        "compress_following": 2,  # the control that matches the size of our file
        "profile": 2,
        "tables_smoke": 1,
        "figures_smoke": 1,
        "costs_smoke": 1,
        "coders_smoke": 1,
        "smoke": 1,
    }


def test_all_is_the_default_and_runs_the_configured_seeds(checkout):
    planned = checkout.planned("--config", f"pairs=[{MNIST_SMOKE[0]}]", "seeds=[1,2,5]")
    assert planned["pretrain"] == planned["compress"] == 3
    assert planned["all"] == 1


def test_an_overlay_replaces_what_it_names(checkout):
    overlay = ["--configfile", "config/reference.yaml", "--config", f"pairs=[{MNIST_SMOKE[0]}]"]
    assert checkout.planned(*overlay)["compress"] == 5


def test_pretraining_is_shared_by_all_points(checkout):
    experiment = yaml.safe_load(EXPERIMENT.read_text())["soft-weight-sharing"]["main"]
    points = {"main": experiment, "small": experiment}
    checkout.write_experiment(MNIST_SMOKE[0], **{"soft-weight-sharing": points})
    folder = f"results/runs/{MNIST_SMOKE[0]}/soft-weight-sharing"
    runs = [f"{folder}/{point}/seed-1/metrics.json" for point in points]
    assert checkout.planned(*runs) == {"data": 1, "pretrain": 1, "compress": 2}


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("seed=[1]", "unknown key 'seed'; did you mean 'seeds'?"),
        ("seeds=[-1]", "seeds.0 = '-1': input should be greater than or equal to 0"),
        ("pairs=[lenet-9_mnist]", "pair 'lenet-9_mnist' has no experiment"),
        ("pairs=[lenet]", "pairs.0 = 'lenet'"),
        ("seeds=[4294967296]", "seeds.0 = '4294967296': input should be less than or equal to"),
        ("results=a{seed}", "results = 'a{seed}': choose a folder without braces"),
    ],
)
def test_a_wrong_configuration_stops_before_anything_runs(checkout, setting, expected):
    done = checkout.snakemake("--cores", "2", "smoke", "--config", setting)
    assert done.returncode != 0
    assert sum(expected in line for line in done.stdout.splitlines()) == 1, done.stdout
    assert "Traceback" not in done.stdout
    assert not (checkout.folder / "results").exists()


def test_a_wrong_experiment_stops_before_anything_runs(checkout):
    checkout.write_experiment(MNIST_SMOKE[1], pretraining={"epochs": 0, "learning_rate": 0.1})
    done = checkout.snakemake("--cores", "2", "smoke")
    assert done.returncode != 0
    assert f"{MNIST_SMOKE[1]}.yaml: pretraining.epochs = 0: " in done.stdout
    assert not (checkout.folder / "results").exists()


def test_a_target_without_its_data_fails_before_any_job(checkout):
    checkout.write_experiment("lenet-300-100_cifar-10")
    pairs = f"pairs=[{MNIST_SMOKE[0]},lenet-300-100_cifar-10]"
    done = checkout.snakemake("--cores", "2", "cifar10", "--config", pairs)
    assert done.returncode != 0
    assert "lenet-300-100_cifar-10: no data; set SWS_DATA_ROOT" in done.stdout
    assert not (checkout.folder / "results").exists()
    done = checkout.snakemake("--cores", "2", "cifar100", "--config", pairs)
    assert "no configured pair belongs to target cifar100" in done.stdout


def test_large_networks_take_turns_on_the_gpu(checkout):
    checkout.write_experiment("wrn-16-4_synthetic-100")
    run = "results/pretrained/wrn-16-4_synthetic-100/seed-1/metrics.json"
    pairs = ["--config", "pairs=[wrn-16-4_synthetic-100]"]
    done = checkout.snakemake("--cores", "64", "--dry-run", run, *pairs)
    assert "threads: 16" in done.stdout
    assert "gpu=1" in done.stdout


def test_parsing_needs_no_deep_learning_framework(checkout):
    (checkout.folder / "torch.py").write_text("raise SystemExit('torch was imported')\n")
    assert checkout.planned("smoke")["pretrain"] == 2


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["smoke", "--until", "compress"], {"data": 1, "pretrain": 2, "compress": 9}),
        (["smoke", "-R", "compress", "--until", "compress"], {"compress": 9}),
        (["smoke", "-R", "compress", "--until", "compress_following"], {"compress_following": 2}),
        (["baselines", "--until", "compress"], {"compress": 6}),
    ],
)
def test_a_run_may_end_with_a_stage(checkout, arguments, expected):
    pairs = ["--config", f"pairs=[{MNIST_SMOKE[0]}]", "seeds=[1]"]
    planned = checkout.planned(*arguments, *pairs)
    assert {rule: planned.get(rule) for rule in expected} == expected
    last = list(expected)[-1]
    following = {"compress": "compress_following", "compress_following": "tables_smoke"}[last]
    assert following not in planned


# --- places ---------------------------------------------------------------------------------------

AWKWARD = "My 'Scr\"atch' $HOME;$(touch oops)`touch oops`&é~*"


def commands(said):
    """The words that a shell makes of the commands that Snakemake prints."""
    return [
        shlex.split(line) for line in re.findall(r"^Shell command: (.*sws .*)", said, re.MULTILINE)
    ]


def test_every_command_names_an_awkward_folder_as_it_is(checkout):
    done = checkout.snakemake(
        *("--cores", "2", "--dry-run", "--printshellcmds", "smoke", "studies"),
        *("--config", f"results={AWKWARD}"),
    )
    assert done.returncode == 0, done.stdout
    found = commands(done.stdout)
    names = {next(word for word in words if word in COMMANDS) for words in found}
    assert names == COMMANDS
    for words in found:
        places = [word for word in words if word.startswith(AWKWARD)]
        assert places, words
        # what is left are the words of the rule, which a shell takes as they are
        rest = [word for word in words if word not in places]
        assert all(re.fullmatch(r"[\w./,=-]*", word) for word in rest), rest
    (tables,) = [words for words in found if "tables" in words]
    assert tables[-1] == "--no-data="  # nothing is missing, and the command is told so


def test_results_may_lie_in_an_awkward_folder(checkout):
    target = f"pretrained/{MNIST_SMOKE[0]}/seed-1/metrics.json"
    done = checkout.snakemake(
        *("--cores", "2", "--config", f"results={AWKWARD}", "--"), f"{AWKWARD}/{target}"
    )
    assert done.returncode == 0, done.stdout
    assert (checkout.folder / AWKWARD / target).is_file()
    assert not list(checkout.folder.rglob("oops"))


def test_both_sides_know_the_home_folder(checkout, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    checkout.environment["HOME"] = str(home)
    done = checkout.snakemake("smoke", "--cores", "1", "--until", "data", "--config", "results=~/r")
    assert done.returncode == 0, done.stdout
    assert (home / "r" / "data" / "mnist-smoke.json").is_file()
    assert not (checkout.folder / "~").exists()


def test_a_locale_without_unicode_is_no_obstacle(checkout):
    checkout.environment |= ASCII
    checkout.write_experiment(MNIST_SMOKE[0])  # in UTF-8, as an editor writes it
    path = checkout.folder / "config" / "experiments" / f"{MNIST_SMOKE[0]}.yaml"
    path.write_text("# σ ≥ 0\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    done = checkout.snakemake("smoke", "--cores", "1", "--until", "data")
    assert done.returncode == 0, done.stdout
    assert (checkout.folder / "results" / "data" / "mnist-smoke.json").is_file()


# --- a real run -----------------------------------------------------------------------------------


def test_smoke_ends_with_files_that_decode(finished):
    results = finished.folder / "results"
    with (results / "tables" / "smoke" / "table1.csv").open(newline="") as file:
        measured = [row for row in csv.DictReader(file) if row["source"] == "measured"]
    assert {row["status"] for row in measured} == {"ok"}
    rows = [
        row for row in measured if (row["method"], row["point"]) == ("soft-weight-sharing", "main")
    ]
    assert [row["model"] for row in rows] == ["lenet-300-100", "lenet-5-caffe"]
    for row in rows:
        assert (row["status"], row["seeds"]) == ("ok", "1")
        pair = f"{row['model']}_{row['dataset']}"
        run = results / "runs" / pair / "soft-weight-sharing" / "main" / "seed-1"
        metrics = json.loads((run / "metrics.json").read_text())
        assert metrics["error_end_pct"] < 20  # it learnt something, and the file still knows it
        assert metrics["bytes"]["file"] == (run / "model.sws").stat().st_size
        assert float(row["error_end_pct"]) == pytest.approx(metrics["error_end_pct"], abs=0.01)
        done = subprocess.run(
            ["sws", "evaluate", run / "model.sws", row["dataset"]],
            env=finished.environment,
            capture_output=True,
            text=True,
        )
        assert f"{metrics['error_end_pct']:.2f} % error" in done.stdout, done.stderr


def test_smoke_draws_the_figures_it_promises(finished):
    folder = finished.folder / "results" / "figures" / "smoke"
    pairs = split_pairs(MNIST_SMOKE)
    assert {path.name for path in folder.iterdir()} == set(figures.filenames(pairs))


def test_logs_are_plain_lines(finished):
    logs = sorted((finished.folder / "logs").rglob("*.log"))
    assert len(logs) == 20
    for path in logs:
        text = path.read_text()
        assert text.strip(), path
        assert "\r" not in text
        assert "\x1b" not in text


def test_a_second_run_has_nothing_to_do(finished):
    assert finished.planned("smoke") == {}


def test_settings_run_again_what_depends_on_them_and_no_more(finished, request):
    path = finished.folder / "config" / "experiments" / EXPERIMENT.name
    original = path.read_text()
    request.addfinalizer(lambda: path.write_text(original))

    path.write_text(original + "\n# a remark\n")
    assert finished.planned("smoke") == {}

    path.write_text(original.replace("      tau: 0.005", "      tau: 0.006"))
    planned = finished.planned("smoke")
    assert planned.pop("compress") == planned.pop("compress_following") == 1
    assert planned.pop("profile") == 1
    made = {f"{kind}_smoke" for kind in ("tables", "figures", "costs", "coders")}
    assert set(planned) == made | {"smoke"}

    path.write_text(original.replace("learning_rate: 0.002", "learning_rate: 0.003"))
    planned = finished.planned("smoke")
    assert [planned[rule] for rule in ("pretrain", "compress", "compress_following")] == [1, 6, 1]
    assert "data" not in planned


def test_all_lists_what_it_leaves_out_and_shows_it_in_the_table(finished):
    finished.write_experiment("lenet-300-100_cifar-10")
    pairs = f"pairs=[{MNIST_SMOKE[0]},lenet-300-100_cifar-10]"
    done = finished.snakemake("--cores", "2", "--config", pairs, "seeds=[1]")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("lenet-300-100_cifar-10: set SWS_DATA_ROOT to a folder") == 2
    table = finished.folder / "results" / "tables" / "all" / "table1.csv"
    with table.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["source"] == "measured"]
    assert [row["status"] for row in rows] == ["ok", "no data"]


def test_a_job_that_fails_says_why_on_the_terminal(checkout):
    raw = checkout.folder / "raw" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for path in (ROOT / "resources" / "mnist").glob("*.gz"):
        (raw / path.name).write_bytes(path.read_bytes()[:-100])
    done = checkout.snakemake("--cores", "2", "smoke", "--config", "data_root=raw")
    assert done.returncode != 0
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("error: ")]
    assert str(raw) in line
    assert line.endswith("(log: logs/data/mnist-smoke.log)")
    assert not list((checkout.folder / "results").rglob("*.*"))


@pytest.fixture(scope="module")
def report(finished):
    """The report on the smoke target, made as the README says."""
    done = finished.snakemake("smoke", "--report", "results/report.html")
    assert done.returncode == 0, done.stdout
    return finished.folder / "results" / "report.html"


def test_the_report_holds_every_table_and_figure(report):
    html = report.read_text()
    for name in ("table1.html", "layers.html", "costs.html", "fig3_components", "fig9_methods"):
        assert name in html, name


@pytest.mark.skipif(browser.CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
def test_the_report_reads_well_in_a_browser(report, finished, tmp_path):
    about, entries = browser.walk(report, tmp_path)
    assert "Start with Tables" in about
    drawn = [path for path in finished.folder.glob("results/figures/smoke/*.[sg][vi][gf]")]
    shown = [entry for entry in entries if entry["category"] != "Tables"]
    assert len(shown) == len(drawn) > 10
    for entry in shown:
        assert entry["kind"] == ("file" if "GIF" in entry["label"] else "picture"), entry
        assert entry["width"] > 300, entry
    tables = [entry for entry in entries if entry["category"] == "Tables"]
    assert len(tables) == 5
    for entry in tables:
        assert entry["kind"] == "page" and entry["rows"] > 3, entry
    for entry in entries:
        assert len(entry["caption"]) > 60, entry
    assert {(e["category"], e["subcategory"]) for e in shown} == {
        ("LeNet-300-100 on MNIST, a slice", "Soft weight-sharing"),
        ("LeNet-300-100 on MNIST, a slice", "All methods"),
        ("LeNet-5-Caffe on MNIST, a slice", "Soft weight-sharing"),
        ("LeNet-5-Caffe on MNIST, a slice", "All methods"),
        ("The method", "Soft weight-sharing"),
    }


# --- the plan -------------------------------------------------------------------------------------


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """A plan for two pairs, of which one has no data."""
    monkeypatch.setenv("SWS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SWS_DATA_ROOT", raising=False)
    shutil.copytree(ROOT / "config" / "experiments", tmp_path, dirs_exist_ok=True)
    text = EXPERIMENT.read_text()
    pair = "lenet-300-100_cifar-10"
    (tmp_path / f"{pair}.yaml").write_text(text.replace("mnist-smoke", "cifar-10"))
    values = {"pairs": [MNIST_SMOKE[0], pair], "seeds": [1, 2]}
    return Plan(validate_configuration(values, "test"), tmp_path)


def test_pairs_without_data_are_left_out_and_listed(plan):
    target = plan.target("all")
    assert target.runnable == MNIST_SMOKE[:1]
    assert list(target.missing) == ["lenet-300-100_cifar-10"]
    assert target.problem is None
    assert "lenet-300-100_cifar-10: set SWS_DATA_ROOT to a folder that holds" in plan.left_out()
    assert not any("cifar" in path for path in plan.run_files("all", "metrics.json"))


def test_a_target_that_compares_runs_every_method_at_every_point(plan):
    cases = plan.cases("baselines")
    assert {case.method for case in cases} == set(methods.names())
    assert {case.pair for case in cases} == {("lenet-300-100", "mnist-smoke")}
    assert [case.method for case in plan.cases("all")] == ["soft-weight-sharing"]
    assert len(plan.run_files("baselines", "metrics.json")) == 2 * len(cases)
    assert len(plan.profile_files("baselines")) == len(cases)
    assert plan.profile_files("all") == []
    assert any(path.endswith("fixed.csv") for path in plan.table_files("baselines"))
    assert {f.figure for f in plan.figure_files("baselines")} == {"fig9_methods"}
    assert "fig9_methods" not in {f.figure for f in plan.figure_files("all")}


def test_the_control_waits_for_the_run_that_it_matches(plan):
    pair = MNIST_SMOKE[0]
    assert plan.followed(pair, "no-prior", "main", "2") == [
        f"results/runs/{pair}/soft-weight-sharing/main/seed-2/metrics.json"
    ]
    assert plan.followed(pair, "deep-compression", "main", 2) == []


def test_no_run_follows_one_that_follows():
    """Each has a rule of its own, and a rule that waits for itself never starts under --until."""
    experiments = [load_experiment(path) for path in EXPERIMENT.parent.glob("*.yaml")]
    followed = {
        (method, point.follows)
        for experiment in experiments
        for method, points in experiment.methods.items()
        for point in points.values()
        if point.follows is not None
    }
    assert {method for method, _ in followed} <= set(FOLLOWING) == {"no-prior"}
    assert {other for _, (other, _) in followed}.isdisjoint(FOLLOWING)


def test_jobs_are_told_where_things_lie(plan):
    assert plan.environment() == {
        "SWS_CHECKPOINT_ROOT": str(Path.cwd() / "results/.checkpoints"),
        "SWS_DATA_ROOT": "",
    }


def test_jobs_are_told_where_nncodec_is(plan, tmp_path):
    chosen = plan.configuration.model_copy(update={"nncodec": Path("nnc/bin/python")})
    found = Plan(chosen, tmp_path).environment()
    assert found["SWS_NNCODEC"] == str(Path.cwd() / "nnc/bin/python")


def test_figures_have_captions():
    captions = {path.stem for path in (ROOT / "workflow" / "report").glob("*.rst")}
    assert captions >= set(figures.FIGURES)
    assert set(figures.TITLES) == set(figures.FIGURES)


def test_a_figure_is_filed_under_its_network():
    path = Path("results/figures/mnist/fig1_animation_lenet-5-caffe_mnist.gif")
    file = FigureFile.of(path, tuple(figures.FIGURES))
    assert (file.figure, file.subject) == ("fig1_animation", "LeNet-5-Caffe on MNIST")
    assert file.method == "Soft weight-sharing"
    assert file.title == "Figure 1: weights, one frame per epoch (GIF to save)"
    alone = FigureFile.of(Path("fig5_gamma.svg"), tuple(figures.FIGURES))
    assert alone.subject == "The method"
