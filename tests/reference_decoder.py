"""A second reader of ``.sws`` files, written from docs/format.md alone: plain Python, symbol by
symbol, without the package and without its range coder. Slow, trusting, and only here to show that
the document is enough and that both agree."""

import itertools
import json
import struct
import zlib
from pathlib import Path

import numpy as np

TYPES = ("float16", "float32", "int64", "int32", "uint8", "bool")
MASK = 2**64 - 1


def preset_dictionary():
    text = (Path(__file__).parents[1] / "docs" / "format.md").read_text(encoding="utf-8")
    block = text.split("## Appendix A")[1].split("```")[1]
    return block.replace("\n", "").encode()


class Bytes:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        self.at += n
        return self.data[self.at - n : self.at]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value


class RangeDecoder:
    def __init__(self, data):
        self.words = iter(
            [int.from_bytes(data[k : k + 4].ljust(4, b"\0"), "big") for k in range(0, len(data), 4)]
        )
        self.low, self.range = 0, MASK
        self.point = self.word() << 32 | self.word()

    def word(self):
        return next(self.words, 0)

    def symbol(self, weights):
        scale = self.range >> 24
        q = (self.point - self.low & MASK) // scale
        assert q < 2**24
        symbol, below = 0, 0
        while q >= below + weights[symbol]:
            below += weights[symbol]
            symbol += 1
        self.low = self.low + scale * below & MASK
        self.range = scale * weights[symbol]
        if self.range < 2**32:
            self.low, self.range = self.low << 32 & MASK, self.range << 32
            self.point = (self.point << 32 & MASK) + self.word()
        return symbol

    def number(self, n):
        return 0 if n == 1 else self.symbol(table([1] * n))

    def bit(self, one):
        return self.symbol((2**24 - one, one))


def table(counts):
    n, total = len(counts), sum(counts)
    weights = [1 + c * (2**24 - n) // total for c in counts]
    weights[counts.index(max(counts))] += 2**24 - sum(weights)
    return weights


def blocks(length):
    k = 0
    while k < length:
        size = min(max(1, k // 8), length - k)
        yield range(k, k + size)
        k += size


class Table:
    def __init__(self, n, contexts, prior):
        self.counts = [[prior] * n for _ in range(contexts)]

    def block(self, coder, contexts):
        out = [0] * len(contexts)
        for context in sorted(set(contexts)):
            counts = self.counts[context]
            weights = table(counts)
            places = [k for k, c in enumerate(contexts) if c == context]
            for k in places:
                out[k] = coder.symbol(weights)
            for k in places:
                counts[out[k]] += 32
            if max(counts) > 2**20:
                counts[:] = [c - (c >> 1) for c in counts]
        return out

    def sequence(self, coder, contexts):
        parts = list(blocks(len(contexts)))
        return [s for part in parts for s in self.block(coder, [contexts[k] for k in part])]


class Bits:
    def __init__(self, zeros, ones):
        self.zeros, self.ones = list(zeros), list(ones)

    def count(self, contexts, bits):
        for context, bit in zip(contexts, bits, strict=True):
            (self.ones if bit else self.zeros)[context] += 32
        for c in range(len(self.ones)):
            if max(self.zeros[c], self.ones[c]) > 2**20:
                self.zeros[c] -= self.zeros[c] >> 1
                self.ones[c] -= self.ones[c] >> 1

    def sequence(self, coder, contexts):
        out = []
        for part in list(blocks(len(contexts))):
            here = [contexts[k] for k in part]
            weights = [
                min(max(2**24 * self.ones[c] // (self.zeros[c] + self.ones[c]), 1), 2**24 - 1)
                for c in here
            ]
            bits = [coder.bit(w) for w in weights]
            self.count(here, bits)
            out += bits
        return out


def log2(n):
    e = n.bit_length() - 1
    return 256 * e + (256 * (n - 2**e) >> e)


def evidence(o, z):
    return max(-4095, min(4095, log2(o) - log2(z)))


def squash(x):
    x = max(-4095, min(4095, x))
    if x > 0:
        return 2**24 - squash(-x)
    k, f = divmod(-x, 256)
    return 256 * 2**24 // (256 + ((256 + f) << k))


def count_of_at_most(coder, most):
    value = 0
    for _ in range((most.bit_length() + 7) // 8):
        value = value << 8 | coder.number(256)
    return value


def place_pairs(matrix, pairs):
    """Pairs (skip, value) of one row."""
    column = -1
    for skip, value in pairs:
        column += skip + 1
        matrix[column] = value


class HuffmanBits:
    def __init__(self, data):
        self.bits = itertools.chain.from_iterable(f"{byte:08b}" for byte in data)

    def field(self, width):
        return int("0" + "".join(next(self.bits) for _ in range(width)), 2)

    def symbol(self, codewords):
        word = ""
        while word not in codewords:
            word += next(self.bits)
        return codewords[word]


def codewords(coder, alphabet):
    lengths = [coder.number(32) for _ in range(coder.number(alphabet) + 1)]
    words, code, before = {}, 0, 0
    for length, symbol in sorted((n, s) for s, n in enumerate(lengths) if n):
        code <<= length - before
        words[f"{code:0{length}b}"] = symbol
        code, before = code + 1, length
    return words


def read_huffman(coder, bits, entry, entries):
    rows, columns = entry["matrix"]
    n = count_of_at_most(coder, rows * columns)
    skips = codewords(coder, 256 if entry["conv"] else 32)
    values = codewords(coder, entries)
    pointers = [bits.field(n.bit_length()) for _ in range(rows + 1)]
    skips = [bits.symbol(skips) for _ in range(n)]
    values = [bits.symbol(values) for _ in range(n)]
    matrix = np.zeros((rows, columns), int)
    for r in range(rows):
        a, b = pointers[r], pointers[r + 1]
        place_pairs(matrix[r], zip(skips[a:b], values[a:b], strict=True))
    return matrix


def read_relative(coder, rows, columns, entries):
    n = count_of_at_most(coder, rows * columns)
    skips = Table(256, 1, 4).sequence(coder, [0] * n)
    values = Table(entries, 1, 16).sequence(coder, [0] * n)
    row = np.zeros(rows * columns, int)
    place_pairs(row, zip(skips, values, strict=True))
    return row.reshape(rows, columns)


def read_bitmap(coder, rows, columns, lags, upstream, codebook):
    m = [262144, 419430, 419430, 314573, -314573]
    patterns = 2 ** len(lags)
    ones = [1 + 9 * bin(t).count("1") for t in range(patterns)]
    counts = Bits([64 - o for o in ones] + [30] * 8 + [640], ones + [2] * 8 + [16])
    layer = patterns + 8
    signs = np.sign(np.asarray(codebook, np.float64)).astype(int)
    values = Table(len(codebook) - 1, 3, 16) if len(codebook) > 2 else None
    out = np.zeros((rows, columns), int)
    n = max(1, min(4, columns // 4), -(-columns // 256))
    for i in range(rows):
        near = [i - lag for lag in (lags or (1, 2, 3, 4)) if i - lag >= 0]
        s = columns * max(1, len(near))
        p = max(1000 * sum(int((out[r] != 0).sum()) for r in near), s)
        z, o = counts.zeros[layer], counts.ones[layer]
        b = max(1, 32 * o // (z + o))
        contexts, pieces = [], []
        for c in range(columns):
            v = int((out[:i, c] != 0).sum())
            pattern = sum(
                2**j for j, lag in enumerate(lags) if i - lag >= 0 and out[i - lag, c] != 0
            )
            three = [pattern, patterns + upstream(i, c), layer]
            pieces.append(
                [None, evidence(32 * v + 2 * b, 32 * (i + 2) - 32 * v - 2 * b)]
                + [evidence(counts.ones[k], counts.zeros[k]) for k in three]
            )
            contexts.append(three)
        bits = []
        for k in range(n):
            a, end = columns * k // n, columns * (k + 1) // n
            f = sum(bits)
            zeros = max(1, 1000 * s * (a - f) + 3 * (1000 * s - p))
            row = evidence(1000 * s * f + 3 * p, zeros)
            gradient = [0] * 5
            for c in range(a, end):
                pieces[c][0] = row
                w = squash(sum(x * e for x, e in zip(m, pieces[c], strict=True)) >> 20)
                bits.append(coder.bit(w))
                error = 65536 * bits[-1] - (w >> 8)
                gradient = [g + e * error for g, e in zip(gradient, pieces[c], strict=True)]
            m = [x + (g >> 14) for x, g in zip(m, gradient, strict=True)]
        counts.count([c for three in contexts for c in three], [y for y in bits for _ in range(3)])
        alive = [c for c in range(columns) if bits[c]]
        if values is None:
            out[i, alive] = 1
        else:
            sums = [sum(signs[out[i - lag, c]] for lag in lags if i - lag >= 0) for c in alive]
            read = values.block(coder, [1 + int(np.sign(x)) for x in sums])
            out[i, alive] = [1 + x for x in read]
    return out


def read_quantized(coder, bits, entry, codebook, before):
    rows, columns = entry["matrix"]
    if rows * columns == 0:
        return np.zeros((rows, columns), int)
    coding = coder.number(4)
    if coding == 0:
        return np.zeros((rows, columns), int)
    if coding == 1:
        return read_huffman(coder, bits, entry, len(codebook))
    transposed = coder.number(2)
    lags = [coder.number(64) + 1 for _ in range(coder.number(5))]
    inputs = columns
    if transposed:
        rows, columns = columns, rows
    if coding == 2:
        out = read_relative(coder, rows, columns, len(codebook))
    else:
        feeding = [0] * inputs
        if before is not None and len(before) and inputs % len(before) == 0:
            share = inputs // len(before)
            used = [int((row != 0).sum()) for row in before]
            feeding = [min(7, used[k // share].bit_length()) for k in range(inputs)]

        def upstream(i, c):
            return feeding[i if transposed else c]

        out = read_bitmap(coder, rows, columns, lags, upstream, codebook)
    return out.T if transposed else out


class Raw:
    def __init__(self, absolute):
        self.absolute, self.tables = absolute, {}

    def read(self, coder, dtype, contexts):
        if dtype not in ("float16", "float32"):
            width = np.dtype(dtype).itemsize
            planes = self.tables.setdefault(dtype, [Table(256, 1, 1) for _ in range(width)])
            columns = [plane.sequence(coder, [0] * len(contexts)) for plane in planes]
            little = np.dtype(dtype).newbyteorder("<")
            if dtype == "bool":
                columns = [[byte & 1 for byte in columns[0]]]
            return np.array(columns, np.uint8).T.reshape(-1, width).copy().view(little)[:, 0]
        e, f, word = (5, 10, "<u2") if dtype == "float16" else (8, 23, "<u4")
        if dtype not in self.tables:
            size = 2**e + f
            self.tables[dtype] = Table(2 ** (e + 1), 3, 1), Bits([16] * size, [16] * size)
        table, bits = self.tables[dtype]
        heads = table.sequence(coder, contexts)
        exponents = [head % 2**e for head in heads]
        base = [x if self.absolute else 0 for x in exponents]
        words = [head << f for head in heads]
        for place in range(f - 1, -1, -1):
            here = [b + place if x else 2**e + f - 1 for x, b in zip(exponents, base, strict=True)]
            plane = bits.sequence(coder, here)
            words = [w | bit << place for w, bit in zip(words, plane, strict=True)]
        return np.array(words, word).view("<f2" if dtype == "float16" else "<f4")


def read_directory(reader, names):
    entries, rows, codebook = [], None, 0
    for name in names:
        flags = reader.take(1)[0]
        entry = {"name": name, "raw": flags & 1}
        if flags & 1:
            entry["type"] = TYPES[flags >> 1 & 7]
            entry["trainable"] = not flags >> 4 & 1
            d = flags >> 5
            if d == 7:
                entry["shape"] = (rows,)
            else:
                d = reader.varint() if d == 6 else d
                entry["shape"] = tuple(reader.varint() for _ in range(d))
        else:
            entry["conv"] = flags >> 1 & 1
            entry["shape"] = shape = tuple(reader.varint() for _ in range((flags >> 2 & 3) + 1))
            entry["scale"] = struct.unpack("<f", reader.take(4))[0] if flags >> 4 & 1 else 1.0
            codebook = reader.varint() if flags >> 5 & 1 else codebook
            entry["codebook"] = codebook
            rows = shape[0] if len(shape) > 1 else 1
            entry["matrix"] = rows, int(np.prod(shape[1:] if len(shape) > 1 else shape, dtype=int))
        entries.append(entry)
    return entries


def dead_units(entries, matrices, k):
    """Of the raw tensor at place k of the directory; None if it belongs to no units."""
    before = [e for e in entries[:k] if not e["raw"]]
    after = [e for e in entries[k:] if not e["raw"]]
    if not before or entries[k]["shape"] != (before[-1]["matrix"][0],):
        return None
    matrix = matrices[before[-1]["name"]]
    dead = [not row.any() for row in matrix]
    if after and dead:
        following = matrices[after[0]["name"]]
        if following.shape[1] % len(dead) == 0:
            g = following.shape[1] // len(dead)
            for r in range(len(dead)):
                dead[r] = dead[r] or not following[:, g * r : g * (r + 1)].any()
    return dead


def decode(data):
    """Codebooks, tensors by name (indexes or values, with their directory entry), metadata."""
    assert zlib.crc32(data[:-4]) == int.from_bytes(data[-4:], "little")
    reader = Bytes(data[:-4])
    assert reader.take(4) == b"SWS\x01"
    inflate = zlib.decompressobj(-15, preset_dictionary())
    names, architecture, spec = json.loads(inflate.decompress(reader.take(reader.varint())))
    sizes = [reader.varint() for _ in range(reader.varint())]
    entries = read_directory(reader, names)
    bits = HuffmanBits(reader.take(reader.varint()))
    coder = RangeDecoder(reader.take(len(data) - 4 - reader.at))
    raw = Raw(coder.number(2))
    codebooks = []
    for size in sizes:
        dtype = ("float16", "float32")[size % 2]
        rest = raw.read(coder, dtype, [2] * (size // 2 - 1))
        codebooks.append(np.concatenate([np.zeros(1, dtype), rest]))
    matrices, before = {}, None
    for entry in entries:
        if not entry["raw"]:
            codebook = codebooks[entry["codebook"]]
            before = read_quantized(coder, bits, entry, codebook, before)
            matrices[entry["name"]] = before
    tensors = {}
    for k, entry in enumerate(entries):
        if not entry["raw"]:
            tensors[entry["name"]] = entry, matrices[entry["name"]].reshape(entry["shape"])
            continue
        size = int(np.prod(entry["shape"], dtype=int))
        dead = dead_units(entries, matrices, k)
        contexts = [0] * size if dead is None else [int(d) for d in dead]
        values = raw.read(coder, entry["type"], contexts).reshape(entry["shape"])
        tensors[entry["name"]] = entry, values
    return codebooks, tensors, architecture, spec
