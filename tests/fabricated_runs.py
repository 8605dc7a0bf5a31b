"""Real run folders made without training: real networks and files, plausible traces."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from sws import codec
from sws.codec import rates
from sws.network.quantized import (
    Architecture,
    InputSpec,
    QuantizedNetwork,
    QuantizedTensor,
    RawTensor,
)
from sws.runs.records import Case

MODELS = {
    "lenet-300-100": {
        "fc1.weight": (300, 784),
        "fc2.weight": (100, 300),
        "fc3.weight": (10, 100),
    },
    "lenet-5-caffe": {
        "conv1.weight": (20, 1, 5, 5),
        "conv2.weight": (50, 20, 5, 5),
        "fc1.weight": (500, 800),
        "fc2.weight": (10, 500),
    },
}
ERRORS = {"lenet-300-100": (1.65, 1.90), "lenet-5-caffe": (0.75, 0.92)}
PRIOR = {
    "zero_proportion": {"value": 0.999, "learned": True, "pseudo_count": 0.1},
    "zero_precision": {"alpha": 5000, "beta": 2, "mode": None, "variance": None},
    "precision": {"mode": 2500.0, "variance": 20000.0, "alpha": None, "beta": None},
}
CODE = {"commit": "0" * 40, "dirty": False, "hash": "abc"}


def fabricate(
    results: Path,
    model: str = "lenet-300-100",
    dataset: str = "mnist",
    method: str = "soft-weight-sharing",
    point: str = "main",
    seed: int = 0,
    epochs: int = 40,
    scale: int = 1,
    code: dict | None = None,
    better: float = 0.0,
) -> Path:
    """Write one run folder; ``scale`` divides the hidden units, ``better`` lowers the error."""
    rng = np.random.default_rng([seed, len(model), len(method)])
    case = Case(model, dataset, method, point)
    folder = case.folder(results, seed)
    folder.mkdir(parents=True)
    codebook = np.array([0, -0.28, -0.12, 0.09, 0.22, 0.41], np.float32)
    tensors, starts, ends, filters = [], [], [], None
    for name, shape in _shapes(model, scale).items():
        kind = "conv" if len(shape) == 4 else "fc"
        fan = int(np.prod(shape[1:]))
        start = rng.normal(0, 1.2 / np.sqrt(fan), shape).astype(np.float32)
        share = 0.35 if fan < 130 else 0.03
        threshold = np.quantile(np.abs(start), 1 - share)
        target = start * 2 + rng.normal(0, 0.05, shape)
        nearest = np.abs(target[..., None] - codebook[1:]).argmin(-1) + 1
        indexes = np.where(np.abs(start) > threshold, nearest, 0).astype(np.uint8)
        spread = np.where(indexes > 0, 0.012, 0.002)
        ends.append((codebook[indexes] + rng.normal(0, spread)).astype(np.float32).ravel())
        starts.append(start.ravel())
        filters = filters or (start, codebook[indexes])
        tensors.append(QuantizedTensor(name, kind, 0, indexes))
        bias = rng.normal(0, 0.1, shape[0]).astype(np.float16)
        tensors.append(RawTensor(name.replace("weight", "bias"), bias))
    network = QuantizedNetwork(
        tuple(tensors),
        (codebook,),
        Architecture(model, {"classes": 10}),
        InputSpec((1, 28, 28), (0.0,), (1.0,), tuple("0123456789")),
    )
    size = codec.write(network, folder / "model.sws")
    start, end = np.concatenate(starts), np.concatenate(ends)
    assigned = np.concatenate([t.indexes.ravel() for t in network.quantized])
    _write_trace(folder, case, seed, epochs, start, end, assigned, codebook, filters)
    _write_history(folder, epochs)
    found = rates.rates(network, size)
    error_start, error_end = np.array(ERRORS[model]) + rng.normal(0, 0.05, 2)
    metrics = {
        "model": model,
        "dataset": dataset,
        "method": method,
        "point": point,
        "seed": seed,
        "n_train": 60000,
        "tuning_trials": 12,
        "error_start_pct": round(float(error_start), 2),
        "error_retrained_pct": round(float(error_end) - 0.1, 2),
        "error_assigned_pct": round(float(error_end) + 0.2, 2),
        "error_end_pct": round(float(error_end) - better, 2),
        "parameters": network.parameters,
        "weights": network.weights,
        "nonzero_pct": 100 * network.nonzeros / network.weights,
        "components": 6,
        "cr": {k: float(getattr(found, k)) for k in ("nonzero", "han", "huffman", "file")},
        "bytes": {"dense": 4 * network.parameters, "file": size},
        "provenance": {"code": CODE if code is None else code, "settings": "0" * 64},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    return folder


def _shapes(model: str, scale: int) -> dict[str, tuple[int, ...]]:
    shapes = dict(MODELS[model])
    if scale > 1 and model == "lenet-300-100":
        hidden = (300 // scale, 100 // scale)
        shapes = {
            "fc1.weight": (hidden[0], 784),
            "fc2.weight": (hidden[1], hidden[0]),
            "fc3.weight": (10, hidden[1]),
        }
    elif scale > 1:
        shapes["fc1.weight"], shapes["fc2.weight"] = (500 // scale, 800), (10, 500 // scale)
    return shapes


def _write_trace(folder, case, seed, epochs, start, end, assigned, codebook, filters):
    rng = np.random.default_rng(seed)
    first = np.concatenate([[0], np.linspace(-0.45, 0.5, 16)])
    nearest = np.abs(first[1:, None] - codebook[None, 1:]).argmin(1)
    last = np.concatenate([[0], codebook[1:][nearest] + rng.normal(0, 0.002, 16)])
    t = 1 / (1 + np.exp(-(np.linspace(-5, 5, epochs + 1))))[:, None]
    means = (1 - t) * first + t * last
    deviations = (1 - t) * 0.06 + t * np.concatenate([[0.002], np.full(16, 0.012)])
    share = np.full(17, 1e-6)
    for k in range(1, 6):
        members = np.flatnonzero(nearest == k - 1)
        # All but one component of a cluster lose their weights.
        share[members[0] + 1] = (assigned == k).mean()
    proportions = (1 - t) * np.full(17, 0.001 / 16) + t * share
    proportions[:, 0] = 1 - proportions[:, 1:].sum(1)
    edges = np.linspace(-0.6, 0.6, 129).astype(np.float32)
    snapshots = np.unique(np.linspace(0, epochs, 9).astype(np.int32))
    counts = []
    for epoch in snapshots:
        now = (1 - t[epoch]) * start + t[epoch] * end if epoch else start
        bins = [np.clip(np.searchsorted(edges, v, "right") - 1, 0, 127) for v in (start, now)]
        grid = np.zeros((128, 128), np.int32)
        np.add.at(grid, tuple(bins), 1)
        counts.append(grid)
    kept, zero = np.flatnonzero(assigned)[:20000], np.flatnonzero(assigned == 0)[:20000]
    arrays = {
        "epochs": np.arange(epochs + 1, dtype=np.int32),
        "mixture/means": means,
        "mixture/deviations": deviations,
        "mixture/proportions": proportions,
        "histogram/edges": edges,
        "nonzero/initial": start[kept],
        "nonzero/final": end[kept],
        "zero/initial": start[zero],
        "zero/final": end[zero],
        "filters/initial": filters[0],
        "filters/final": filters[1],
        "codebook": codebook,
    }
    arrays = {name: np.ascontiguousarray(v, np.float32) for name, v in arrays.items()}
    arrays["epochs"] = np.arange(epochs + 1, dtype=np.int32)
    arrays["histogram/epochs"] = snapshots
    arrays["histogram/counts"] = np.stack(counts)
    named = {"model": case.model, "dataset": case.dataset, "method": case.method}
    named |= {"point": case.point, "seed": str(seed)}
    named["first_layer"] = "conv1.weight" if case.model == "lenet-5-caffe" else "fc1.weight"
    save_file(arrays, folder / "trace.safetensors", metadata=named)


def _write_history(folder: Path, epochs: int) -> None:
    columns = "epoch,learning_rate,loss,cross_entropy,complexity,error_train_pct"
    lines = [columns + ",error_val_pct,nonzero_pct,components"]
    lines += [f"{e},0.001,0.1,0.05,0.05,0.5,,5.0,6" for e in range(1, epochs + 1)]
    (folder / "history.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def fabricate_trials(
    results: Path,
    model: str = "lenet-300-100",
    dataset: str = "mnist",
    method: str = "soft-weight-sharing",
    trials: int = 12,
) -> Path:
    """Write ``trials.csv``: three seeds each; the last trial failed on one seed."""
    path = Path(results) / "tuning" / f"{model}_{dataset}" / method / "trials.csv"
    path.parent.mkdir(parents=True)
    columns = "trial,seed,settings,n_train,epochs,error_start_val_pct,error_end_val_pct"
    columns += ",file_bytes,cr_file,nonzero_pct,seconds,main,note"
    rng = np.random.default_rng(len(model))
    dense = 4 * {"lenet-300-100": 266610, "lenet-5-caffe": 431080}[model]
    factor = 1.0 if model == "lenet-300-100" else 3.0
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns.split(","))
        for trial in range(trials):
            rate = factor * 40 * 1.12**trial
            for seed in range(3):
                start = 1.0 + ERRORS[model][0] / 2 + rng.normal(0, 0.05)
                end = start + (rate / factor / 120) ** 3 * 0.5 - 0.05 + rng.normal(0, 0.04)
                ratio = rate * (1 + rng.normal(0, 0.03))
                row = [trial, seed, json.dumps({"tau": 0.01 * trial}), 50000, 40]
                row += [f"{start:.2f}", f"{end:.2f}", int(dense / ratio), f"{ratio:.4f}", 3.0, 99]
                if trial == trials - 1 and seed == 2:
                    row[5:11] = [""] * 6
                writer.writerow([*row, int(trial == 6), ""])
    return path
