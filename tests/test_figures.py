import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fabricated_runs import PRIOR, fabricate, fabricate_trials
from PIL import Image
from safetensors.numpy import save_file

from sws.prior.hyper_priors import BetaPrior, GammaPrior
from sws.report import figures
from sws.report.figures import hyper_priors, indexing, tradeoff, weights
from sws.report.figures.subject import Subject
from sws.runs.records import Case, ResultsError, Trial, read_runs, read_trace, read_trials

LENET = ("lenet-300-100", "mnist")
CAFFE = ("lenet-5-caffe", "mnist")


MAIN = ("soft-weight-sharing", "main")


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    for pair in (LENET, CAFFE):
        fabricate(folder, *pair, seed=1, scale=10, epochs=6)
        fabricate_trials(folder, *pair)
    return folder


@pytest.fixture(scope="module")
def drawn(results, tmp_path_factory):
    output = tmp_path_factory.mktemp("figures")
    written, skipped = figures.build(
        results, output, [LENET], [0, 1], settings={LENET: {"prior": PRIOR}}, points={LENET: [MAIN]}
    )
    more, none = figures.build(results, output, [CAFFE], [0, 1], only=["fig7_filters"])
    assert none == {}
    return output, written + more, skipped


def test_every_figure_is_drawn(drawn):
    output, written, skipped = drawn
    assert skipped == {}
    names = sorted(path.name for path in output.iterdir())
    assert names == sorted(path.name for path in written)
    expected = figures.filenames([LENET], tuned=[LENET])
    expected += figures.filenames([CAFFE], only=["fig7_filters"])
    assert names == sorted(expected)
    assert {name.split("_")[0] for name in names} == {f"fig{n}" for n in range(1, 10)}


def test_pictures_are_not_blank(drawn):
    output, _, _ = drawn
    for path in output.glob("*.png"):
        with Image.open(path) as image:
            grey = np.asarray(image.convert("L"))
        assert min(grey.shape) > 300, path.name
        assert (grey < 128).mean() > 0.002, path.name


def test_animation_has_a_frame_for_each_snapshot(drawn):
    output, _, _ = drawn
    with Image.open(output / "fig1_animation_lenet-300-100_mnist.gif") as image:
        assert image.n_frames == 7
        assert image.info["loop"] == 0


def test_same_input_same_bytes(results, drawn, tmp_path):
    output, _, _ = drawn
    only = ["fig1_weights", "fig3_components", "fig5_gamma"]
    written, _ = figures.build(results, tmp_path, [LENET], [0, 1], only=only)
    for path in written:
        if path.stem != "fig5_gamma":  # The settings in use were not given here.
            assert path.read_bytes() == (output / path.name).read_bytes(), path.name
    code = "import sys; from pathlib import Path; from sws.report import figures\n"
    code += "figures.build(*map(Path, sys.argv[1:]), [('lenet-300-100', 'mnist')], [0, 1],"
    code += " only=['fig5_gamma', 'fig3_components'])"
    again = tmp_path / "again"
    root = Path(figures.__file__).parents[2]
    subprocess.run([sys.executable, "-c", code, results, again], check=True, cwd=root)
    for path in again.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name


def test_what_cannot_be_drawn_is_told(tmp_path):
    written, skipped = figures.build(tmp_path, tmp_path / "f", [LENET], [0])
    assert {path.stem for path in written} == {"fig4_relative_indexing", "fig5_gamma", "fig6_beta"}
    assert skipped["fig1_weights_lenet-300-100_mnist"].startswith("no finished run")
    assert skipped["fig2_bytes_lenet-300-100_mnist"] == "no finished tuning trial"


def test_a_method_without_mixture_has_no_components_to_draw(tmp_path):
    folder = fabricate(tmp_path, *LENET, "deep-compression", scale=10, epochs=2)
    trace = read_trace(folder / "trace.safetensors")
    kept = {k: v for k, v in trace.arrays.items() if not k.startswith("mixture")}
    save_file(kept, folder / "trace.safetensors", metadata=dict(trace.metadata))
    only = ["fig3_components", "fig8_filters"]
    written, skipped = figures.build(
        tmp_path, tmp_path / "f", [LENET], [0], "deep-compression", only=only
    )
    assert len(written) == 2
    assert "mixture" in skipped["fig3_components_lenet-300-100_mnist"]


def test_a_network_without_weights_is_drawn(tmp_path):
    folder = fabricate(tmp_path, *LENET, scale=10, epochs=2)
    trace = read_trace(folder / "trace.safetensors")
    none = np.zeros(0, np.float32)
    pruned = {"nonzero/initial": none, "nonzero/final": none, "codebook": np.zeros(1, np.float32)}
    pruned["filters/final"] = np.zeros_like(trace["filters/final"])
    arrays = dict(trace.arrays) | pruned
    save_file(arrays, folder / "trace.safetensors", metadata=dict(trace.metadata))
    only = ["fig1_weights", "fig3_components", "fig8_filters"]
    written, _ = figures.build(tmp_path, tmp_path / "f", [LENET], [0], only=only)
    assert len(written) == 6


def test_unknown_figure(tmp_path):
    with pytest.raises(ResultsError, match="choose from fig1_weights"):
        figures.build(tmp_path, tmp_path, [LENET], [0], only=["fig9"])


def test_damaged_trace_is_named(tmp_path):
    folder = fabricate(tmp_path, *LENET, scale=10, epochs=2)
    path = folder / "trace.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ResultsError, match=r"trace\.safetensors: damaged"):
        figures.build(tmp_path, tmp_path / "f", [LENET], [0], only=["fig3_components"])
    path.unlink()
    with pytest.raises(ResultsError, match="no such trace"):
        figures.build(tmp_path, tmp_path / "f", [LENET], [0], only=["fig1_weights"])
    assert not list((tmp_path / "f").iterdir())


def test_relative_indexing_is_the_papers_example():
    stored = indexing.entries([1, 4, 15], bits=3)
    assert [entry.gap for entry in stored] == [1, 3, 8, 3]
    assert [entry.padding for entry in stored] == [False, False, True, False]
    assert [entry.position for entry in stored] == [1, 4, 12, 15]


def test_hyper_priors_in_use_are_merged_over_pairs():
    used = hyper_priors.in_use(
        {LENET: {"prior": PRIOR}, CAFFE: {"prior": PRIOR}}, {LENET: 266_200, CAFFE: 430_500}
    )
    gammas = [use.prior for use in used if isinstance(use.prior, GammaPrior)]
    assert [use.label for use in used if isinstance(use.prior, GammaPrior)] == [
        "LeNet-300-100, LeNet-5-Caffe: zero component",
        "LeNet-300-100, LeNet-5-Caffe: others",
    ]
    assert (gammas[0].alpha, gammas[0].beta) == (5000, 2)
    assert gammas[1].mode == pytest.approx(2500)
    first = next(use.prior for use in used if isinstance(use.prior, BetaPrior))
    assert first.alpha + first.beta - 2 == pytest.approx(26_620)
    fixed = PRIOR | {"zero_proportion": {"value": 0.999, "learned": False}, "precision": None}
    assert [p.label for p in hyper_priors.in_use({LENET: {"prior": fixed}}, {LENET: 266_200})] == [
        "LeNet-300-100: zero component"
    ]


def test_the_settings_prior_is_understood():
    from sws.config.sections import Precision
    from sws.config.soft_weight_sharing import Prior, Proportion

    prior = Prior(
        precision=Precision(mode=2500, variance=20000), zero_proportion=Proportion(learned=True)
    )
    used = hyper_priors.in_use({LENET: {"prior": prior.model_dump()}}, {LENET: 266_200})
    assert [type(use.prior) for use in used] == [GammaPrior, GammaPrior, BetaPrior]


def test_trials_are_averaged_against_their_own_start(results):
    def trial(name, seed, start, end, main=False):
        return Trial(name, seed, start, end, 1000.0 + seed, 50.0, main)

    first, second = tradeoff.means(
        [trial("a", 0, 1.0, 1.1), trial("b", 0, 1.0, 2.0, True), trial("a", 1, 2.0, 2.3)]
    )
    assert first.increase == pytest.approx(0.2)
    assert (first.size, first.seeds, first.main) == (1000.5, 2, False)
    assert (second.increase_sd, second.main) == (0.0, True)
    read = read_trials(results, LENET)
    assert len(read) == 35  # One of 36 failed.
    assert {t.trial for t in read if t.main} == {"6"}


def test_unreadable_trials_name_the_line(results, tmp_path):
    path = fabricate_trials(tmp_path, *LENET)
    lines = path.read_text().splitlines()
    number, _, rest = lines[2].partition(",")
    lines[2] = f"{number},one{rest[1:]}"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(ResultsError, match=r"trials\.csv:3: unreadable"):
        read_trials(tmp_path, LENET)


def test_axes_name_the_unit_that_weights_are_measured_in(results):
    runs = read_runs(results, Case(*LENET, *MAIN), [1])
    for unit, words in (("weight", ""), ("tensor", " / r.m.s. of its tensor")):
        figure = weights.draw(Subject(results, LENET, runs=runs, settings={LENET: {"unit": unit}}))
        labels = {axes.get_xlabel() for axes in figure.axes}
        assert f"pre-trained weight{words}" in labels
    schedule = {"precision": {"deviation": [[0, 3.0], [1, 0.3]]}}
    ((place, names),) = hyper_priors.annealing(
        {LENET: {"unit": "tensor", "prior": schedule}}
    ).items()
    assert place[0] == "others / r.m.s. of its tensor"
    assert names == ["LeNet-300-100"]
