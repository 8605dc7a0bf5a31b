"""Integer logistic mixing: several estimates of a probability become one that learns whom to trust.

An estimate is a pair of counts; its evidence is the log-odds log2(ones) − log2(zeros) in units of
1/256 bit. The mixed log-odds are a weighted sum of the evidence, and the weights follow the
gradient of the coding cost, as in logistic regression: Δw_k ∝ Σ evidence_k · (bit − p). Logarithm
and exponential are piecewise linear between powers of two, hence exact integer functions that any
reader can repeat (docs/format.md, "Logistic mixing").
"""

from __future__ import annotations

import numpy as np

from sws.codec.range_coding import PRECISION, TOTAL

UNIT = 256  # evidence per bit
BOUND = 16 * UNIT - 1  # largest evidence: a probability of about 2^−16
WEIGHT_BITS = 20  # mixing weights are in 2^−20
RATE_BITS = 14  # learning rate 2^−14, at evidence in 1/256 bit and errors in 2^−16


def _log2(counts: np.ndarray) -> np.ndarray:
    mantissa, exponent = np.frexp(counts)  # exact: n = mantissa · 2^exponent, 1/2 ≤ mantissa < 1
    return UNIT * (exponent.astype(np.int64) - 2) + (2 * UNIT * mantissa).astype(np.int64)


_SMALL = np.concatenate([[0], _log2(np.arange(1, 1 << 17))])


def log2(counts: np.ndarray) -> np.ndarray:
    """Piecewise linear 256·log2(n) of positive integers below 2^53.

    With 2^e ≤ n < 2^(e+1): 256·e + ⌊256·(n − 2^e) / 2^e⌋.
    """
    return _SMALL[counts] if counts.max(initial=0) < _SMALL.size else _log2(counts)


def log2_int(count: int) -> int:
    """The same function of one Python integer of any size."""
    exponent = count.bit_length() - 1
    return UNIT * exponent + (UNIT * (count - (1 << exponent)) >> exponent)


def evidence(ones: np.ndarray, zeros: np.ndarray) -> np.ndarray:
    """Log-odds of two positive counts in 1/256 bit, limited to ±4095."""
    return np.minimum(np.maximum(log2(ones) - log2(zeros), -BOUND), BOUND)


def _weights_of_one() -> np.ndarray:
    """The weight of a 1 out of 2^24 at each evidence −4095 … 4095: the inverse of the log-odds."""
    table = np.empty(2 * BOUND + 1, np.int64)
    for x in range(BOUND + 1):
        odds = (UNIT + x % UNIT) << (x // UNIT)  # 256 · 2^(x/256), piecewise linear
        table[BOUND - x] = UNIT * TOTAL // (UNIT + odds)
        table[BOUND + x] = TOTAL - table[BOUND - x]
    return table


_ONES = _weights_of_one()


class Mixer:
    """The mixing weights and their learning.

    Parameters
    ----------
    weights : one per estimate, in 2^−20.
    """

    def __init__(self, weights: tuple[int, ...]) -> None:
        self.weights = np.array(weights, np.int64)

    def mix(self, inputs: np.ndarray) -> np.ndarray:
        """Weight of a 1 (of 2^24) for each column of ``inputs`` (estimates, n)."""
        mixed = self.weights @ inputs >> WEIGHT_BITS
        return _ONES[np.minimum(np.maximum(mixed, -BOUND), BOUND) + BOUND]

    def learn(self, inputs: np.ndarray, ones: np.ndarray, bits: np.ndarray) -> None:
        """Move the weights along the gradient of the bits' cost under ``ones``."""
        errors = (bits.astype(np.int64) << 16) - (ones >> PRECISION - 16)
        self.weights += inputs @ errors >> RATE_BITS
