"""Dynamic network surgery (Guo, Yao & Chen 2016), and sharing on top.

The paper prunes and stores parameters as they are; its ratio is a count of parameters. What the
paper's method gives is measured after retraining (``error_retrained_pct``,
``nonzero_retrained_pct``, biases counted as the paper counts them). So that there is a file to
weigh, k-means and the same refinement as for other methods follow.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sws.compression.clustering import cluster_nonzeros
from sws.compression.masking import check_layers, inside_pct, layer_of, of_layer
from sws.compression.process import Compressed, CompressionTask, Process
from sws.config.network_surgery import NetworkSurgery, Surgery
from sws.network.weights import compressible
from sws.training.loop import FitSettings, Hooks


class SplicedWeights(Hooks):
    """Masks that close and open again, over weights that are all trained.

    The network runs with W ∘ T; the gradient found there goes to all of W, so that what was cut
    can grow until it is spliced back (eq. 2 of the paper). With a_l = 0.9·t_l and b_l = 1.1·t_l,
    t_l = max(0, mean + c·sd) of ``|W_l|`` (weights and biases of the layer together, taken once at
    the start), T becomes 0 below a_l, 1 above b_l, and stays between them (eq. 3). Masks are
    updated at a step with probability (1 + γ·step)^−p, until they stay.

    Parameters
    ----------
    settings : Surgery
        Thresholds and how masks are updated.
    steps : int
        Of the whole training.
    seed : int
        Of the draws.

    Attributes
    ----------
    shown : dict of str to nn.Parameter
        The network's own weights and biases, which hold W ∘ T; from :meth:`attach` on.
    latent, masks : dict of str to Tensor
        W and T, by the same names.
    """

    def __init__(self, settings: Surgery, steps: int, seed: int = 0):
        self.settings = settings
        self.steps = steps
        self.step = 0
        self.draws = torch.Generator().manual_seed(seed)
        self.shown: dict[str, nn.Parameter] = {}
        self.others: list[nn.Parameter] = []
        self.latent: dict[str, nn.Parameter] = {}
        self.masks: dict[str, Tensor] = {}
        self.thresholds: dict[str, float] = {}

    def attach(self, model: nn.Module) -> None:
        check_layers(model, self.settings.c_of)
        parameters = dict(model.named_parameters())
        weights = compressible(model)
        biases = [f"{layer_of(n)}.bias" for n in weights if f"{layer_of(n)}.bias" in parameters]
        self.shown = {n: p for n, p in parameters.items() if n in weights or n in biases}
        self.others = [p for n, p in parameters.items() if n not in self.shown]
        self.latent = {n: nn.Parameter(p.detach().clone()) for n, p in self.shown.items()}
        self.masks = {n: torch.ones_like(p, dtype=torch.bool) for n, p in self.shown.items()}
        self.thresholds = {}
        for name in weights:
            members = [n for n in self.shown if layer_of(n) == layer_of(name)]
            values = torch.cat([self.latent[n].detach().reshape(-1).abs() for n in members])
            c = of_layer(name, self.settings.c, self.settings.c_of)
            limit = max(0.0, float(values.mean() + c * values.std(correction=0)))
            self.thresholds |= dict.fromkeys(members, limit)

    def parameter_groups(self, model: nn.Module, settings: FitSettings) -> list[dict[str, Any]]:
        matrices = [v for v in self.latent.values() if v.ndim > 1]
        others = [v for v in self.latent.values() if v.ndim <= 1] + self.others
        return [
            {"params": matrices, "weight_decay": self.settings.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]

    def after_backward(self) -> None:
        for name, parameter in self.shown.items():
            self.latent[name].grad = parameter.grad
            parameter.grad = None

    def after_step(self) -> None:
        chance = (1 + self.settings.gamma * self.step) ** -self.settings.power
        drawn = float(torch.rand((), generator=self.draws))
        if self.step < self.settings.until * self.steps and drawn < chance:
            self._operate()
        self.step += 1
        self._show()

    def _operate(self) -> None:
        """Update all masks (eq. 3)."""
        for name, value in self.latent.items():
            size, limit = value.detach().abs(), self.thresholds[name]
            mask = self.masks[name]
            mask &= size > 0.9 * limit
            mask |= size > 1.1 * limit

    @torch.no_grad()
    def _show(self) -> None:
        """Write W ∘ T into the network."""
        for name, parameter in self.shown.items():
            torch.mul(self.latent[name], self.masks[name], out=parameter.data)

    @property
    def nonzero_pct(self) -> float:
        """Share of the parameters inside the masks, biases included, in per cent."""
        return inside_pct(self.masks)

    def record(self) -> dict[str, float]:
        return {"nonzero_pct": self.nonzero_pct}

    def state_dict(self) -> dict[str, Any]:
        return {
            "latent": {n: v.detach() for n, v in self.latent.items()},
            "masks": self.masks,
            "thresholds": self.thresholds,
            "step": self.step,
            "draws": self.draws.get_state(),
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, value in self.latent.items():
            value.copy_(state["latent"][name])
            self.masks[name].copy_(state["masks"][name])
        self.thresholds, self.step = state["thresholds"], state["step"]
        self.draws.set_state(state["draws"])


def compress(task: CompressionTask, settings: NetworkSurgery) -> Compressed:
    """Operate on the network, then share and refine what is left.

    Parameters
    ----------
    task : CompressionTask
        What to compress.
    settings : sws.config.network_surgery.NetworkSurgery
        The operating point.
    """
    retraining, quantization = settings.retraining, settings.quantization
    process = Process(task, settings.unit)
    surgery = SplicedWeights(retraining, task.steps(retraining), task.seed)
    process.retrain(surgery, retraining, optimizer=retraining.optimizer)
    codebook, index = cluster_nonzeros(process.flat_weights(), quantization.clusters)
    return process.finish(index, codebook, quantization, nonzero_retrained_pct=surgery.nonzero_pct)
