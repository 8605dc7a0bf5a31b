"""Tables that learn: the counts of what has been coded are the table of what comes next.

Nothing is stored in the file. Writer and reader start from the same counts and update them with the
same symbols, a block at a time, which is what lets NumPy and the range coder work on arrays. A
block is an eighth of the sequence before it, so that tables are never far out of date.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from sws.codec.logistic import evidence
from sws.codec.range_coding import TOTAL, Coder, integer_weights

BLOCK_SHARE = 8
STEP = 32  # what one observation adds to a count
LIMIT = 1 << 20  # counts above it are halved: they stay exact in every product


class AdaptiveTable:
    """Adaptive tables for symbols 0 … n − 1, one per context.

    Parameters
    ----------
    alphabet : n ≥ 2.
    contexts : number of tables.
    prior : count that every symbol starts from; one observation adds :data:`STEP`.
    """

    def __init__(self, alphabet: int, contexts: int = 1, prior: int = 16) -> None:
        self.counts = np.full((contexts, alphabet), prior, np.int64)

    def code(self, coder: Coder, contexts: np.ndarray, symbols: np.ndarray | None) -> np.ndarray:
        """Code ``len(contexts)`` symbols, updating the tables after each block."""
        coded = np.empty(contexts.size, np.int32)
        for block in _blocks(contexts.size):
            given = None if symbols is None else symbols[block]
            coded[block] = self.code_block(coder, contexts[block], given)
        return coded

    def code_block(
        self, coder: Coder, contexts: np.ndarray, symbols: np.ndarray | None
    ) -> np.ndarray:
        """Code symbols under the tables as they are, context by context, then update them."""
        coded = np.empty(contexts.size, np.int32)
        for context in np.unique(contexts):
            where = np.flatnonzero(contexts == context)
            given = None if symbols is None else symbols[where]
            counts = self.counts[context]
            coded[where] = coder.symbols(integer_weights(counts), given, where.size)
            counts += STEP * np.bincount(coded[where], minlength=counts.size)
            if counts.max() > LIMIT:
                counts -= counts >> 1
        return coded


class AdaptiveBits:
    """Adaptive probabilities of a bit, one per context.

    Parameters
    ----------
    zeros, ones : counts to start from, one per context, at least 1.
    """

    def __init__(self, zeros: Sequence[int], ones: Sequence[int]) -> None:
        self.counts = np.array([zeros, ones], np.int64)

    def code(self, coder: Coder, contexts: np.ndarray, bits: np.ndarray | None) -> np.ndarray:
        """Code ``len(contexts)`` bits, updating the probabilities after each block."""
        coded = np.empty(contexts.size, bool)
        for block in _blocks(contexts.size):
            given = None if bits is None else bits[block]
            zeros, ones = self.counts[:, contexts[block]]
            weights = np.clip(TOTAL * ones // (zeros + ones), 1, TOTAL - 1)
            coded[block] = coder.binary(weights, given)
            self.update(contexts[block], coded[block])
        return coded

    def evidence(self) -> np.ndarray:
        """Log-odds of a 1 in each context, in 1/256 bit."""
        return evidence(self.counts[1], self.counts[0])

    def update(self, contexts: np.ndarray, bits: np.ndarray) -> None:
        """Count ``bits`` under ``contexts``."""
        size = self.counts.shape[1]
        joint = np.bincount(contexts + size * bits, minlength=2 * size)
        self.counts += STEP * joint.reshape(2, size)
        if self.counts.max() > LIMIT:
            full = self.counts.max(axis=0) > LIMIT
            self.counts[:, full] -= self.counts[:, full] >> 1


def block_count(count: int) -> int:
    """Blocks that a sequence is cut into: rounds of work, about 16 + 8·ln(count / 16)."""
    return sum(1 for _ in _blocks(count))


def _blocks(count: int) -> Iterator[slice]:
    """Cut a sequence into blocks, each 1/8 as long as all that came before it (at least 1)."""
    start = 0
    while start < count:
        stop = min(count, start + max(1, start // BLOCK_SHARE))
        yield slice(start, stop)
        start = stop
