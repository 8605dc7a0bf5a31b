"""Compression methods, one file each; all return a :class:`sws.network.QuantizedNetwork`."""
