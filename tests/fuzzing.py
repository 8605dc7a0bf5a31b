"""Mutations of ``.sws`` files, and what a reader must do with any bytes at all.

Nearly every mutant carries a checksum that fits, as a hostile file would; otherwise nothing behind
the checksum would ever be tried. Seeds cover kernels, cells and every kind of raw tensor.
"""

import json
import re
import time
import zlib
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from sample_networks import codebook, lenet_5_caffe, lenet_300_100, sequential, sparse_layer, tiny

from sws import codec
from sws.codec.header import MAGIC, deflate, inflate, varint
from sws.network.quantized import QuantizedNetwork, QuantizedTensor, RawTensor

# Where sizes are checked, and where arithmetic on them might wrap around.
SIZES = [0, 1, 2, 3, 127, 128, 255, 256, 257, 65535, 65536, 65537]
SIZES += [2**k + d for k in (20, 23, 24, 25, 31, 32, 34) for d in (-1, 0, 1)]
SIZES = [size for size in SIZES if size < 2**35]


def seeds():
    """Sound files to start from: small, so that a mutation seldom misses what matters."""
    rng = np.random.default_rng(11)
    small = [
        sequential(rng, [("fc1", "fc", sparse_layer(rng, (6, 16), 0.2, side=4))]),
        sequential(rng, [("conv1", "conv", sparse_layer(rng, (4, 1, 3, 3), 0.5))]),
        sequential(
            rng,
            [
                ("fc1", "fc", sparse_layer(rng, (4, 12), 0.2)),
                ("fc2", "fc", sparse_layer(rng, (3, 8), 0.4)),
            ],
        ),
        # more than 256 values: indexes of two bytes
        QuantizedNetwork(
            (QuantizedTensor("w", "fc", 0, rng.integers(0, 300, (3, 8)).astype(np.uint16)),),
            (codebook(300, np.float32),),
        ),
        QuantizedNetwork(
            (QuantizedTensor("w", "fc", 0, rng.integers(0, 2, (3, 9)).astype(np.uint8), 0.5),),
            (codebook(2),),
        ),
    ]
    small.append(
        QuantizedNetwork(
            (
                QuantizedTensor("a", "conv", 0, sparse_layer(rng, (3, 2, 5), 0.3)),
                QuantizedTensor("b", "conv", 1, sparse_layer(rng, (2, 3, 4, 4), 0.2)),
                QuantizedTensor("v", "fc", 0, sparse_layer(rng, (1, 30), 0.2).reshape(30)),
            ),
            (codebook(9, np.float32), 0 - np.abs(codebook(9))),
            notes={"licence": "MIT"},
        )
    )
    raw = [np.float16, np.float32, np.int64, np.int32, np.uint8, np.bool_]
    values = [rng.integers(-5, 5, (2, 3)).astype(dtype) for dtype in raw]
    files = [codec.encode(n) for n in (*small, tiny())]
    files += [codec.encode(QuantizedNetwork((RawTensor("b", v),), ())) for v in values]
    files.append(codec.encode(QuantizedNetwork((), ())))
    many = [RawTensor(f"{k}", np.zeros(24, raw[k % 6])) for k in range(40)]
    files.append(codec.encode(QuantizedNetwork(tuple(many), ())))
    return list(dict.fromkeys(files))


def large_seeds():
    """Files of real networks: slow to read, so that a campaign tries a few only."""
    return [codec.encode(lenet_300_100(density=0.004)), codec.encode(lenet_5_caffe())]


LARGE = 0.002
"""Share of the mutants that come of a large file."""


def signed(content):
    """With the checksum that fits."""
    return bytes(content) + zlib.crc32(content).to_bytes(4, "little")


@dataclass(frozen=True)
class Layout:
    """Where the parts of a sound file are, as docs/format.md has them, without its checksum."""

    content: bytes
    metadata: tuple[int, int]  # of the deflated text
    numbers: tuple[tuple[int, int], ...]  # places of varints
    flags: tuple[int, ...]  # places of the directory's flags
    body: int  # where the stream begins

    @classmethod
    def of(cls, data):
        content, at, numbers, flags = data[:-4], len(MAGIC), [], []

        def number():
            nonlocal at
            start, value, shift = at, 0, 0
            while True:
                byte = content[at]
                at += 1
                value |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    numbers.append((start, at))
                    return value

        length = number()
        metadata = (at, at + length)
        at += length
        names = json.loads(inflate(content[slice(*metadata)]))[0]
        for _ in range(number()):
            number()
        for _ in names:
            flags.append(at)
            byte = content[at]
            at += 1
            if byte & 1:
                dimensions = byte >> 5
                dimensions = number() if dimensions == 6 else dimensions % 7
            else:
                dimensions = (byte >> 2 & 3) + 1
            for _ in range(dimensions):
                number()
            if not byte & 1:
                at += 4 * (byte >> 4 & 1)
                if byte >> 5 & 1:
                    number()
                at += byte >> 6 & 1
        body = at
        return cls(content, metadata, tuple(numbers), tuple(flags), body)


class Mutator:
    """Draws mutants of sound files; the same seed gives the same ones."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.layouts = [Layout.of(data) for data in seeds()]
        self.large = [Layout.of(data) for data in large_seeds()]
        self.kinds = {
            "bit flips": self.flip,
            "truncation": self.truncate,
            "splice": self.splice,
            "bytes": self.overwrite,
            "length fields": self.numbers,
            "directory": self.directory,
            "metadata": self.metadata,
            "stream": self.stream,
            "several": self.several,
            "wrong checksum": self.unsigned,
        }

    def draw(self):
        """A kind of mutation, and a mutant."""
        kind = self.choose(list(self.kinds))
        layout = self.choose(self.large if self.rng.random() < LARGE else self.layouts)
        content = bytes(self.kinds[kind](layout))
        return kind, content if kind == "wrong checksum" else signed(content)

    def choose(self, items):
        return items[self.rng.integers(len(items))]

    def place(self, content, start=0):
        return int(self.rng.integers(min(start, len(content)), len(content) + 1))

    def flip(self, layout, content=None):
        altered = bytearray(layout.content if content is None else content)
        for _ in range(int(self.rng.integers(1, 9))):
            if altered:
                k = int(self.rng.integers(8 * len(altered)))
                altered[k // 8] ^= 1 << k % 8
        return altered

    def truncate(self, layout):
        return layout.content[: self.place(layout.content)]

    def splice(self, layout):
        other = self.choose(self.layouts).content
        a, b = sorted((self.place(other), self.place(other)))
        c, d = sorted((self.place(layout.content), self.place(layout.content)))
        return layout.content[:c] + other[a:b] + layout.content[d:]

    def overwrite(self, layout):
        at = self.place(layout.content)
        fill = self.choose([b"\0", b"\xff", b"\x80", b"\x7f", self.rng.bytes(1)])
        length = int(self.rng.integers(1, 17))
        fill = self.rng.bytes(length) if self.rng.random() < 0.5 else fill * length
        return layout.content[:at] + fill + layout.content[at + length * self.rng.integers(2) :]

    def number(self):
        kind = self.rng.integers(4)
        if kind == 0:
            return varint(self.choose(SIZES))
        if kind == 1:
            return varint(int(self.rng.integers(1 << int(self.rng.integers(1, 35)))))
        if kind == 2:  # the same number in more bytes than it needs
            return bytes([int(self.rng.integers(128)) | 128]) + bytes([128] * 3) + b"\0"
        return b"\xff" * int(self.rng.integers(1, 7))

    def numbers(self, layout):
        """Lengths, dimensions, sizes of codebooks: one to three of them."""
        content, count = layout.content, int(self.rng.integers(1, 4))
        chosen = self.rng.permutation(len(layout.numbers))[:count]
        for k in sorted(chosen, reverse=True):  # from the end, so that places stay right
            start, stop = layout.numbers[k]
            content = content[:start] + self.number() + content[stop:]
        return content

    def directory(self, layout):
        altered = bytearray(layout.content)
        for place in layout.flags:
            if self.rng.random() < 1.5 / len(layout.flags):
                altered[place] = int(self.rng.integers(256))
        return altered

    def metadata(self, layout):
        """The text itself, packed anew with a length that fits, or noise in its packing."""
        start, stop = layout.metadata
        text = bytearray(inflate(layout.content[start:stop]))
        for _ in range(int(self.rng.integers(1, 4))):
            at = self.place(text)
            piece = self.choose(
                [b"", b"null", b"[", b"]", b"{}", b"-1", b"1e999", b"NaN", b'"', b"\\u0000", b",",
                 b"[" * 2000, b"9" * 400, b'"\\ud800"', b"true", b"0.5", b"1e400", b'"\\u001b[31m"',
                 b'{"a":1,"a":2}', b"__metadata__", b"x" * 300, self.rng.bytes(3)]
            )  # fmt: skip
            text[at : at + int(self.rng.integers(6))] = piece
        packed = deflate(bytes(text))
        if self.rng.random() < 0.2:
            packed = bytes(b ^ (self.rng.random() < 0.03) * 255 for b in packed)
        begin = layout.numbers[0][0]
        return layout.content[:begin] + varint(len(packed)) + packed + layout.content[stop:]

    def stream(self, layout):
        """The header of one file with the stream of another, or with noise, longer or shorter."""
        head, body = layout.content[: layout.body], layout.content[layout.body :]
        kind = self.rng.integers(4)
        if kind == 0:
            other = self.choose(self.layouts)
            return head + other.content[other.body :]
        if kind == 1:
            return head + self.rng.bytes(int(self.rng.integers(2 * len(body) + 8)))
        if kind == 2:
            fill = self.choose([b"\0", b"\xff", b"\x55", b"\xaa"])
            return head + body[: self.place(body)] + fill * int(self.rng.integers(200))
        at = self.place(body, min(2, len(body)))
        return head + body[:at] + self.rng.bytes(len(body) - at)

    def several(self, layout):
        content = self.numbers(layout) if self.rng.random() < 0.5 else self.stream(layout)
        return self.flip(layout, content)

    def unsigned(self, layout):
        return self.flip(layout, layout.content + zlib.crc32(layout.content).to_bytes(4, "little"))


@dataclass
class Findings:
    """What a reader did with many inputs."""

    inputs: int = 0
    decoded: int = 0
    slowest: float = 0.0  # seconds of processor time
    slowest_input: bytes = b""
    kinds: Counter = field(default_factory=Counter)
    reasons: Counter = field(default_factory=Counter)
    failures: list = field(default_factory=list)  # (what, input)

    def add(self, kind, data, limit):
        """Read one input and judge what comes of it."""
        self.inputs += 1
        self.kinds[kind] += 1
        start = time.process_time()
        try:
            network = codec.decode(data)
        except codec.CorruptFileError as error:
            reason = str(error)
            if not reason or len(reason) > 3000 or not reason.isprintable():
                self.failures.append((f"reason {reason!r}", data))
            # what differs from file to file is no other reason
            reason = re.sub(r"\d+", "N", reason.rpartition(": ")[2])
            self.reasons[reason] += 1
        except BaseException as error:
            self.failures.append((f"{type(error).__name__}: {error}", data))
            if not isinstance(error, Exception):
                raise
        else:
            self.decoded += 1
            if self.decoded % 10 == 1 and codec.decode(codec.encode(network)) != network:
                self.failures.append(("does not survive being written again", data))
        spent = time.process_time() - start
        if spent > self.slowest:
            self.slowest, self.slowest_input = spent, data
        if spent > limit:
            self.failures.append((f"took {spent:.1f} s", data))

    def merge(self, other):
        self.inputs += other.inputs
        self.decoded += other.decoded
        self.kinds += other.kinds
        self.reasons += other.reasons
        self.failures += other.failures
        if other.slowest > self.slowest:
            self.slowest, self.slowest_input = other.slowest, other.slowest_input


def campaign(inputs, seed, limit=10.0):
    """Read so many mutants.

    Parameters
    ----------
    limit : seconds of processor time that an input may take.
    """
    mutator, found = Mutator(seed), Findings()
    for _ in range(inputs):
        found.add(*mutator.draw(), limit)
    return found
