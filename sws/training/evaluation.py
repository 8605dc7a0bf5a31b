"""Test error, measured in float32."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sws.network.batch_norm import modes_kept


def error_pct(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    batch_size: int = 1000,
    prepare: Callable[[Tensor], Tensor] | None = None,
) -> float:
    """Top-1 error in per cent, evaluation mode, float32, whatever the training used.

    Parameters
    ----------
    model : nn.Module
        The classifier; its modes are put back.
    inputs : Tensor
        What the network takes, on its device; or what ``prepare`` makes that of.
    labels : Tensor
        (N,) int64.
    batch_size : int
        Images at a time.
    prepare : callable, optional
        Applied to each batch, such as :class:`sws.data.augmentation.Preparation`.
    """
    with modes_kept(model), torch.inference_mode():
        model.eval()
        wrong = sum(
            int((model(x if prepare is None else prepare(x)).argmax(dim=1) != y).sum())
            for x, y in zip(inputs.split(batch_size), labels.split(batch_size), strict=True)
        )
    return 100 * wrong / len(labels)
