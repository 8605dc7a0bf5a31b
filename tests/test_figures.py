import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fabricated_runs import PRIOR, fabricate, fabricate_trials
from matplotlib.text import Text
from PIL import Image
from safetensors.numpy import save_file

from sws.prior.hyper_priors import BetaPrior, GammaPrior
from sws.report import figures, prior_study
from sws.report.figures import (
    components,
    filters,
    hyper_priors,
    indexing,
    methods,
    style,
    tradeoff,
    weights,
)
from sws.report.figures.subject import Subject
from sws.runs import published
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


@pytest.fixture(scope="module")
def subjects(results):
    return {
        pair: Subject(
            results,
            pair,
            runs=read_runs(results, Case(*pair, *MAIN), [1]),
            trials=read_trials(results, pair),
            literature=published.of_pair(published.read(), pair),
            settings={pair: {"prior": PRIOR}},
            compared=read_runs(results, Case(*pair, *MAIN), [1]),
        )
        for pair in (LENET, CAFFE)
    }


@pytest.mark.parametrize(
    ("draw", "pair"),
    [
        (weights.draw, LENET),
        (tradeoff.draw_ratio, CAFFE),
        (tradeoff.draw_bytes, CAFFE),
        (components.draw, LENET),
        (indexing.draw, LENET),
        (hyper_priors.draw_gamma, LENET),
        (hyper_priors.draw_beta, LENET),
        (filters.draw_convolution, CAFFE),
        (filters.draw_dense, LENET),
        (methods.draw, CAFFE),
    ],
)
def test_figures_can_be_read_at_600_pixels(subjects, draw, pair):
    with style.drawing():
        figure = draw(subjects[pair])
        figure.draw_without_rendering()
        assert figure.get_figwidth() == style.WIDTH
        for text in figure.findobj(Text):
            if text.get_text().strip():
                assert 600 / 72 * text.get_fontsize() / style.WIDTH >= 9, text
        caption = figure._supxlabel
        assert len(caption.get_text()) > 80
        assert caption.get_window_extent().x1 <= figure.bbox.width


def labels(figure):
    drawn = [axes.get_legend() for axes in figure.axes if axes.get_legend()]
    return [text.get_text() for legend in drawn for text in legend.get_texts()]


def test_counts_of_parameters_are_no_sizes(subjects):
    for draw in (tradeoff.draw_ratio, tradeoff.draw_bytes):
        shown = [label for label in labels(draw(subjects[CAFFE])) if label[0].isdigit()]
        assert any("Ullrich 2017" in label for label in shown)
        assert not any("[COUNT]" in label or "[VALUES]" in label for label in shown)


def test_values_of_the_file_appear_when_there_is_a_file(subjects):
    plot = weights.JointPlot(subjects[LENET].a_run.trace())

    def values():
        return [line for line in plot.strip.get_lines() if line.get_marker() == "<"]

    plot.show(0)
    assert not values()
    assert plot.strip.patches, "the mixture is drawn from the start"
    plot.show(-1)
    (shown,) = values()
    assert set(shown.get_ydata()) <= set(plot.trace["codebook"])


def test_components_that_coincide_make_one_peak(subjects):
    trace = subjects[LENET].a_run.trace()
    assert trace["mixture/means"].shape[1] == 17
    # sixteen free components, made around five values; two of the values make no other's shoulder
    assert components.modes(trace) == pytest.approx([0, -0.28, -0.12, 0.09, 0.22, 0.41], abs=0.02)


def test_the_second_layer_is_that_of_the_file(subjects):
    second = filters._second_layer(subjects[CAFFE].a_run)
    assert second.shape == (50, 20, 5, 5)
    second[3:] = 0
    assert "47 of 50 outputs and 20 of 20 inputs" in filters._sparse(second)


def test_only_networks_of_as_many_components_are_joined():
    rows = [
        {"case": f"n{j}", "weights": 10**k, "components": j, "estimator": name}
        | {"seconds": 1.0, "extra_memory_mb": 1.0, "error_weights": 1e-7}
        for k, j in ((5, 17), (6, 64), (7, 17))
        for name in ("exact", "subsampled-10000")
    ]
    figure = prior_study.draw(rows)
    joined = [line for line in figure.axes[0].get_lines() if line.get_linestyle() != "None"]
    assert [list(line.get_xdata()) for line in joined] == [[10**5, 10**7]] * 2
