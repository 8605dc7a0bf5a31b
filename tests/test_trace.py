"""The trace: what it records is what the file holds."""

import numpy as np
import torch
from safetensors.numpy import load

from sws.compression.trace import BINS, TraceRecorder, serialize
from sws.prior.components import Components


def components(shift):
    return Components(np.array([0.0, 0.3 + shift]), np.array([4.0, 5.0]), np.log([0.9, 0.1]))


def recorded(epochs=5):
    torch.manual_seed(0)
    weights = [torch.randn(7, 5), torch.randn(3, 7)]
    trace = TraceRecorder(weights)
    for epoch in range(epochs + 1):
        trace.record(epoch, components(0.1 * epoch), weights, epochs)
    return trace, weights


def test_the_file_holds_every_epochs_mixture():
    trace, weights = recorded()
    indexes = [(w.abs() > 1).long() for w in weights]
    tensors = trace.tensors(weights, indexes, np.array([0.0, 0.5]))
    read = load(serialize(tensors, {"model": "none"}))
    for name, values in tensors.items():
        np.testing.assert_array_equal(read[name], values)
    np.testing.assert_allclose(read["mixture/means"][:, 1], 0.3 + 0.1 * np.arange(6), rtol=1e-6)
    np.testing.assert_allclose(read["mixture/proportions"], [[0.9, 0.1]] * 6, rtol=1e-6)
    assert read["histogram/counts"].shape[1:] == (BINS, BINS)
    assert (read["histogram/counts"].sum(axis=(1, 2)) == 56).all()
    assert len(read["nonzero/initial"]) + len(read["zero/initial"]) == 56


def test_views_and_metadata_are_written_in_a_fixed_way():
    base = np.arange(12.0).reshape(4, 3)
    metadata = {k: "x" for k in "qwertyuiop"}
    data = serialize({"column": base[:, 1], "transposed": base.T}, metadata)
    read = load(data)
    np.testing.assert_array_equal(read["column"], [1, 4, 7, 10])
    np.testing.assert_array_equal(read["transposed"], base.T)
    positions = [data.index(f'"{k}":"x"'.encode()) for k in sorted(metadata)]
    assert positions == sorted(positions)


def test_a_trace_survives_a_checkpoint():
    trace, weights = recorded(3)
    other = TraceRecorder(weights)
    other.load_state_dict(trace.state_dict())
    for t in (trace, other):
        t.record(4, components(1.0), weights, 4)
    indexes = [torch.zeros_like(w, dtype=torch.long) for w in weights]
    book = np.array([0.0])
    assert serialize(trace.tensors(weights, indexes, book), {"a": "b"}) == serialize(
        other.tensors(weights, indexes, book), {"a": "b"}
    )
