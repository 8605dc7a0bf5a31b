"""What methods are compared by: curves, coders, costs."""

import json
import lzma
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import zstandard
from fabricated_runs import fabricate

from sws import codec
from sws.cli import run
from sws.measure import coders as measured
from sws.measure import inference, nncodec
from sws.models import registry
from sws.network.to_module import build_module
from sws.report import coders, costs, fixed_error, table1
from sws.report.fixed_error import OperatingPoint
from sws.runs import published
from sws.runs.records import Case, ResultsError, profile_path, read_runs

PAIR = ("lenet-300-100", "mnist")
POINTS = [
    ("soft-weight-sharing", "main"),
    ("deep-compression", "main"),
    ("network-surgery", "main"),
]


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    for method, point in POINTS:
        for seed in (1, 2):
            path = fabricate(folder, *PAIR, method, point, seed, scale=10, epochs=4)
            metrics = json.loads((path / "metrics.json").read_text())
            metrics["seconds"] = {"pretrain": 30.0, "retrain": 40.0 + seed, "quantize": 20.0}
            metrics["seconds"] |= {"encode": 0.5, "decode": 0.25}
            metrics["peak_memory_mb"] = 700.0
            if method == "soft-weight-sharing":
                metrics["seconds"]["prior"] = 10.0
            if method == "network-surgery":
                metrics["nonzero_retrained_pct"] = 2.0
            (path / "metrics.json").write_text(json.dumps(metrics))
    return folder


def cases():
    return [Case(*PAIR, *point) for point in POINTS]


# --- curves ---------------------------------------------------------------------------------------


def point(size, error, name="p", method="deep-compression"):
    ratio = 100_000.0 / size
    return OperatingPoint(
        method, name, 1, size, 0.0, error, 0.0, error - 1.0, 10.0, ratio, 100_000.0
    )


def test_between_points_the_logarithm_of_the_bytes_is_interpolated():
    curve = [point(1000, 2.0), point(4000, 1.0)]
    size, ratio, status = fixed_error.smallest_file(curve, "error_end_pct", 1.5)
    assert (round(size), round(ratio), status) == (2000, 50, "interpolated")
    assert fixed_error.smallest_file(curve, "error_end_pct", 1.0)[0] == pytest.approx(4000)
    assert fixed_error.smallest_file(curve, "error_end_pct", 2.5) == (1000, 100, "at most")
    assert fixed_error.smallest_file(curve, "error_end_pct", 0.9) == (None, None, "not reached")
    assert round(fixed_error.smallest_file(curve, "delta_pct", 0.5)[0]) == 2000


def test_nothing_is_interpolated_between_variants_of_a_method():
    curve = [
        point(1000, 2.0, method="soft-weight-sharing-subsampled"),
        point(4000, 1.0, method="soft-weight-sharing-subsampled"),
    ]
    assert fixed_error.smallest_file(curve, "error_end_pct", 1.5) == (4000, 25, "measured")
    assert fixed_error.smallest_file(curve, "error_end_pct", 2.5)[2] == "at most"


def test_the_frontier_holds_what_nothing_beats():
    found = fixed_error.pareto(
        [point(3, 1.0, "c"), point(1, 3.0, "a"), point(2, 3.5, "worse"), point(2, 2.0, "b")]
    )
    assert [p.point for p in found] == ["a", "b", "c"]


def test_every_method_stands_at_every_level(results):
    runs = [run for case in cases() for run in read_runs(results, case, [1, 2])]
    rows = fixed_error.rows(runs, published.read())
    levels = {(r["kind"], r["whose"]) for r in rows}
    assert ("rise", "no rise") in levels
    assert ("error", "ours, main") in levels
    assert any("Ullrich" in whose for _, whose in levels)
    (own,) = [r for r in rows if r["whose"] == "ours, main" and r["method"] == POINTS[0][0]]
    ours = [run.metrics["cr"]["file"] for run in runs if run.case.method == POINTS[0][0]]
    assert own["cr_file"] == pytest.approx(np.mean(ours))  # a method reaches its own error
    assert len(rows) == len(levels) * 3
    for row in rows:
        if row["file_bytes"]:
            assert row["cr_file"] > 1
    text = fixed_error.table(rows).to_markdown()
    assert "no rise" in text
    assert text.count("| Deep Compression |") == 1


def test_points_are_means_over_seeds(results):
    runs = read_runs(results, cases()[1], [1, 2])
    (found,) = fixed_error.operating_points(runs)
    sizes = [r.metrics["bytes"]["file"] for r in runs]
    assert found.seeds == 2
    assert found.file_bytes == np.mean(sizes)
    assert found.file_bytes_sd == pytest.approx(np.std(sizes, ddof=1))


# --- table 1 --------------------------------------------------------------------------------------


def test_surgery_is_shown_as_published_and_with_sharing_on_top(results):
    rows = table1.rows(results, [PAIR], [1, 2], POINTS, (), published.read())
    own = [r for r in rows if r["source"] == "measured" and r["method"] == "network-surgery"]
    before, shared = own
    assert (before["point"], shared["point"]) == ("main-before-sharing", "main")
    assert before["file_bytes"] is before["cr_file"] is before["cr_huffman"] is None
    assert before["cr_nonzero"] == pytest.approx(50)
    assert before["nonzero_pct"] == pytest.approx(2)
    assert before["paper_nonzero_pct"] == 1.8
    assert shared["paper_nonzero_pct"] is None
    assert shared["file_bytes"] > 0
    assert "Network surgery, before sharing" in table1.table(rows).to_markdown()


# --- coders ---------------------------------------------------------------------------------------


def test_coders_are_given_the_same_weights(results):
    run = read_runs(results, cases()[0], [1])[0]
    data = (run.folder / "model.sws").read_bytes()
    sizes = measured.weight_bytes(codec.describe(data))
    network = codec.decode(data)
    assert set(sizes) == set(measured.CODERS) - {"nnc"}
    dense = measured.index_map(network)
    assert len(dense) == network.weights
    assert lzma.decompress(lzma.compress(dense, preset=9)) == dense
    packed = zstandard.ZstdCompressor(level=22).compress(dense)
    assert zstandard.ZstdDecompressor().decompress(packed) == dense
    assert sizes["zstd"] == len(packed) + sum(c.nbytes for c in network.codebooks)
    assert sizes["sws"] <= min(sizes.values()) * 1.02
    assert sizes["sws"] < len(data)
    rate = 4 * network.weights / sizes["huffman"]
    assert rate == pytest.approx(run.metrics["cr"]["huffman"], rel=1e-3)


def test_levels_follow_the_order_of_the_values():
    book = np.array([0.0, -0.3, 0.2, 0.4, -0.1], np.float32)
    assert nncodec.signed_ranks(book).tolist() == [0, -2, 1, 2, -1]
    assert nncodec.signed_ranks(np.zeros(1, np.float16)).tolist() == [0]


@pytest.fixture
def stand_in(tmp_path):
    """An environment whose nncodec packs levels with zlib; ``spoil`` makes it decode wrongly.

    The real one builds from source and pulls in a hundred packages.
    """

    def make(spoil=False):
        folder = tmp_path / f"stand-in-{spoil}"
        (folder / "nncodec").mkdir(parents=True)
        (folder / "nncodec" / "__init__.py").touch()
        (folder / "nncodec" / "nn.py").write_text(
            "import pickle, zlib\n"
            "def encode(model, args):\n"
            "    return zlib.compress(pickle.dumps(model))\n"
            "def decode(stream, args):\n"
            "    model = pickle.loads(zlib.decompress(stream))\n"
            f"    return {{name: level + {int(spoil)} for name, level in model.items()}}\n"
        )
        python = folder / "python"
        # -P in place of -I, which would hide the stand-in too
        python.write_text(
            f"#!/bin/sh\nshift\nPYTHONPATH='{folder}' exec '{sys.executable}' -P \"$@\"\n"
        )
        python.chmod(0o755)
        return python

    return make


def test_the_iso_coder_runs_in_an_environment_of_its_own(results, stand_in):
    with_it = coders.rows(results, cases(), [1, 2], stand_in())
    without = coders.rows(results, cases(), [1, 2])
    assert [row for row in with_it if row["coder"] != "nnc"] == without
    streams = [row for row in with_it if row["coder"] == "nnc"]
    assert {row["point"] for row in streams} == {row["point"] for row in without}
    assert all(row["bytes"] > 0 for row in streams)
    assert "nnc, bytes" in coders.table(with_it).to_markdown()
    assert "nnc" not in coders.table(without).to_markdown()


def test_what_the_iso_coder_decodes_is_compared(results, stand_in):
    first = cases()[0].folder(results, 1) / "model.sws"
    with pytest.raises(nncodec.CoderError, match=f"{first}: nncodec decodes something else"):
        coders.rows(results, cases(), [1], stand_in(spoil=True))


def test_an_environment_without_the_iso_coder_is_named(results, tmp_path):
    with pytest.raises(nncodec.CoderError, match="No module named 'nncodec'"):
        coders.rows(results, cases(), [1], Path(sys.executable))
    with pytest.raises(nncodec.CoderError, match="nowhere: cannot be run .No such file"):
        coders.rows(results, cases(), [1], tmp_path / "nowhere")
    with pytest.raises(nncodec.CoderError, match="cannot run nncodec .status 1"):
        coders.rows(results, cases(), [1], Path(shutil.which("false")))


def test_the_iso_coder_is_found_by_a_relative_path(results, stand_in, monkeypatch):
    python = stand_in()
    monkeypatch.chdir(python.parent)
    assert coders.rows(results, cases(), [1], Path("python"))


def test_without_runs_the_iso_coder_is_not_started(results, tmp_path):
    with pytest.raises(ResultsError, match="no run of these pairs"):
        coders.build(results, tmp_path, cases(), [99], tmp_path / "nowhere")


@pytest.mark.skipif(not os.environ.get("SWS_NNCODEC"), reason="no environment with nncodec")
def test_the_real_iso_coder_is_exact(results):
    rows = coders.rows(results, cases(), [1], Path(os.environ["SWS_NNCODEC"]))
    assert sum(row["coder"] == "nnc" for row in rows) > 0


def test_a_damaged_file_is_named(results, tmp_path):
    fabricate(tmp_path, *PAIR, seed=1, scale=10, epochs=2)
    path = cases()[0].folder(tmp_path, 1) / "model.sws"
    path.write_bytes(b"no")
    with pytest.raises(ResultsError, match="model.sws: cannot be read"):
        coders.rows(tmp_path, cases(), [1])


# --- costs ----------------------------------------------------------------------------------------


def test_multiply_adds_of_a_known_network():
    model = registry.build("lenet-5-caffe", classes=10)
    with torch.no_grad():
        model.conv1.weight[:, :, 0] = 0
    dense, left = inference.multiply_adds(model.eval(), torch.zeros(1, 1, 28, 28))
    assert dense == 500 * 24 * 24 + 25_000 * 8 * 8 + 400_000 + 5_000
    assert left == dense - 100 * 24 * 24


def test_sparse_execution_gives_the_same_answers(results):
    run = read_runs(results, cases()[0], [1])[0]
    network = codec.decode((run.folder / "model.sws").read_bytes())
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 30))
    state = network.state_dict()
    with torch.no_grad():
        module[1].weight.copy_(torch.from_numpy(state["fc1.weight"].copy()))
    x = torch.rand(5, 1, 28, 28)
    with torch.inference_mode():
        expected = module(x)
        sparse = inference.with_sparse_layers(module)
        torch.testing.assert_close(sparse(x), expected)
    nonzeros = int(np.count_nonzero(state["fc1.weight"]))
    assert sparse[1].bytes == 8 * nonzeros + 4 * 31


@pytest.fixture(scope="module")
def profiled(tmp_path_factory):
    """A real network of the registry, sparse, in a file."""
    folder = tmp_path_factory.mktemp("profile")
    path = fabricate(folder, *PAIR, seed=1, epochs=2)
    assert run(["profile", str(path / "model.sws"), str(folder / "p.json"), "--seconds", "0"]) == 0
    return path / "model.sws", json.loads((folder / "p.json").read_text())


def test_a_profile_measures_both_ways_of_running(profiled):
    path, found = profiled
    network = codec.read(path)
    assert found["bytes"]["file"] == path.stat().st_size
    assert found["bytes"]["dense"] == 4 * network.parameters
    assert network.weights < found["bytes"]["indexes"] < found["bytes"]["dense"] / 3
    assert found["bytes"]["sparse"] < found["bytes"]["dense"]
    assert found["largest_difference"] < 1e-3
    assert set(found["latency_ms"]) == {"dense-1", "dense-256", "sparse-1", "sparse-256"}
    assert all(value > 0 for value in found["latency_ms"].values())
    assert found["multiply_adds"] == {"dense": 266_200, "left": network.nonzeros}
    assert build_module(network) is not None


def test_costs_are_those_of_runs_and_profiles(results, profiled, tmp_path):
    target = profile_path(results, cases()[0], 1)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(profiled[1]))
    ours, deep, _ = costs.rows(results, cases(), [1, 2])
    assert ours["seconds"] == pytest.approx(61.5)
    assert ours["prior_pct"] == pytest.approx(50 * (10 / 41 + 10 / 42))
    assert deep["prior_pct"] is None
    assert ours["epochs"] == 4
    assert ours["multiply_adds_dense"] == 266_200
    assert deep["decode_ms"] is None
    written = costs.build(results, tmp_path, cases(), [1, 2])
    text = written[1].read_text()
    assert "266,200 multiply-adds an image" in text
    assert "| Deep Compression |" in text
    target.write_text("{}")
    with pytest.raises(ResultsError, match="unreadable"):
        costs.rows(results, cases(), [1, 2])
    target.unlink()
