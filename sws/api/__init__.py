"""Compress your own network in a few lines.

>>> import sws
>>> result = sws.compress(model, loader)           # retrains model in place, then quantises it
>>> print(result)                                  # errors, bytes, ratio
>>> sws.save(result, "model.sws")                  # size of the file in bytes
>>> sws.load("model.sws", into=fresh_model)        # weights from the file
"""

from sws.api.call import compress
from sws.api.files import load, save
from sws.api.guard import RiseError, RiseWarning
from sws.api.later import keep_zeros, unfold
from sws.api.presets import settings
from sws.api.result import CompressionResult

__all__ = [
    "CompressionResult",
    "RiseError",
    "RiseWarning",
    "compress",
    "keep_zeros",
    "load",
    "save",
    "settings",
    "unfold",
]
