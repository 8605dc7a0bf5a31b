"""A second reader of ``.sws`` files, written from docs/format.md alone: plain Python and NumPy.

It shares no code with the package. Section numbers are those of the document. It is slow and
checks little beyond the checksum: its purpose is to disagree if the document or the package is
wrong.
"""

import json
import math
import re
import struct
import zlib
from pathlib import Path

import numpy as np

DOCUMENT = Path(__file__).parents[1] / "docs" / "format.md"
TYPES = ("float16", "float32", "int64", "int32", "uint8", "bool")


def preset_dictionary():
    """Appendix A: the text block after the heading, without line breaks."""
    appendix = DOCUMENT.read_text(encoding="utf-8").partition("## Appendix A")[2]
    return re.search(r"```\n(.*?)```", appendix, re.DOTALL)[1].replace("\n", "").encode("ascii")


# --- section 4 -----------------------------------------------------------------------------------


class RangeDecoder:
    def __init__(self, stream):
        self.stream, self.at = stream, 0
        self.range, self.point = 1 << 48, 0
        for _ in range(6):
            self.point = self.point << 8 | self.byte()

    def byte(self):
        self.at += 1
        return self.stream[self.at - 1] if self.at <= len(self.stream) else 0

    def bit(self, ones):
        split = (self.range >> 16) * ones
        if self.point < split:
            bit, self.range = 1, split
        else:
            bit, self.range, self.point = 0, self.range - split, self.point - split
        while self.range < 1 << 40:
            self.range, self.point = self.range << 8, self.point << 8 | self.byte()
        return bit


# --- section 5 -----------------------------------------------------------------------------------


def log2(n):
    e = n.bit_length() - 1
    return 256 * e + (256 * (n - (1 << e)) >> e)


def limit(x):
    return min(max(x, -4095), 4095)


def stretch(p):
    q = max(p if p < 2048 or p >= 63488 else p - p % 16, 1)
    return limit(log2(q) - log2(65536 - q))


def squash(x):
    if x > 0:
        return 65536 - squash(-x)
    k, f = divmod(-x, 256)
    return max(1, 256 * 65536 // (256 + ((256 + f) << k)))


class Slot:
    def __init__(self, chance=1 << 31, count=0):
        self.chance, self.count = chance, count

    def learn(self, bit, chance=None):
        chance = self.chance if chance is None else chance
        rate = 327680 // (5 * self.count + 11)
        return chance + (((bit << 32) - chance) * rate >> 16), min(self.count + 1, 1023)


class Model:
    """Everything that learns, and the stream."""

    def __init__(self, stream):
        self.coder = RangeDecoder(stream)
        self.slots, self.weights, self.curves = {}, {}, {}

    def slot(self, key):
        return self.slots.setdefault(key, Slot())

    def hashed(self, i, a, b, c):
        return self.slot(("H", (40503 * i + 10007 * a + 31337 * b + 7 * c) % 65536))

    def level(self, slot, base):
        chance = slot.chance if slot.count else base.chance
        return min(max((stretch(chance >> 16) >> 7) + 22, 0), 31)

    def bit(self, base, slots, number, curve=None):
        chances = [s.chance if s.count else base.chance for s in slots]
        weights = self.weights.setdefault(number, [9830] * 6)
        x = [stretch(chance >> 16) for chance in chances]
        mixed = limit(sum(a * w for a, w in zip(x, weights, strict=True)) >> 16)
        p = ones = squash(mixed)
        if curve is not None:
            start = [256 * squash(limit(256 * k - 4096)) for k in range(33)]
            points = self.curves.setdefault(curve, start)
            j, f = (mixed + 4096) >> 8, mixed & 255
            q = (points[j] * (256 - f) + points[j + 1] * f) >> 16
            ones = min(max((p + q) >> 1, 1), 65535)
        bit = self.coder.bit(ones)
        error = ((bit << 16) - p) * 5
        for k in range(6):
            weights[k] += (x[k] * error + (1 << 17)) >> 18
        learnt = [s.learn(bit, chance) for s, chance in zip(slots, chances, strict=True)]
        learnt.append(base.learn(bit))
        for slot, (chance, count) in zip([*slots, base], learnt, strict=True):
            slot.chance, slot.count = chance, count
        if curve is not None:
            j += f >= 128
            points[j] += ((bit << 24) - points[j]) >> 6
        return bit


def bits(n):
    return int(n).bit_length()


# --- section 7 -----------------------------------------------------------------------------------


class Matrix:
    """One quantised tensor being decoded."""

    def __init__(self, model, entry, codebook, before):
        shape = entry["shape"]
        self.model, self.lag = model, entry["lag"]
        self.rows, columns = matrix_shape(shape)
        self.size = math.prod(shape[2:])
        self.width = shape[-1] if len(shape) > 2 else 1
        self.groups = columns // self.size
        below = sorted(
            (k for k in range(1, len(codebook)) if codebook[k] < 0), key=lambda k: -codebook[k]
        )
        others = sorted(
            (k for k in range(1, len(codebook)) if not codebook[k] < 0), key=lambda k: codebook[k]
        )
        self.order = [0, *below, *others]
        self.negative, self.positive = len(below), len(others)
        self.fed = [0] * self.groups
        if before is not None and len(before) and self.groups % len(before) == 0:
            each = self.groups // len(before)
            counts = [np.count_nonzero(row) for row in before]
            self.fed = [min(7, bits(counts[g // each])) for g in range(self.groups)]
        self.levels = np.zeros((self.rows, columns), np.int64)
        for (letter, _), slot in model.slots.items():
            if letter in "FRKCSM":
                slot.count = min(slot.count, 3)
        self.column = [Slot() for _ in range(columns)]
        self.group = [Slot() for _ in range(self.groups)]
        self.group_sign = [Slot() for _ in range(self.groups)]
        self.group_past = [0] * self.groups
        self.past = [0] * columns
        self.above = [0] * columns

    def s(self, letter, *numbers):
        return [self.model.slot((letter, n)) for n in numbers]

    def decode(self):
        lives = self.columns_that_live()
        past, run = 1, 1
        for r in range(self.rows):
            slots = self.s("R", 1 + (past & 1), 4 + (past & 3), 16 + (past & 15), 32 + past,
                           300 + 2 * min(bits(run), 7) + (past & 1),
                           320 + min(bits(r), 15))  # fmt: skip
            bit = self.model.bit(*self.s("R", 0), slots, 1)
            run = run + 1 if bit == past & 1 else 1
            past = (past << 1 | bit) & 255
            if bit:
                self.row(r, lives)
        return np.array(self.order)[self.levels]

    def columns_that_live(self):
        v, run = [], 0
        for g in range(self.groups):
            a, b, c, e = (v[g - n] if g >= n else 2 for n in (1, 2, self.lag, self.lag + 1))
            d = v[g - self.lag + 1] if g >= self.lag and self.lag > 1 else 2
            fed = self.fed[g]
            slots = self.s("F", 1 + a + 3 * b + 9 * c, 32 + a + 3 * c + 9 * e + 27 * d, 128 + fed,
                           136 + 2 * min(bits(run), 7) + (a & 1), 152 + 3 * fed + a,
                           180 + a)  # fmt: skip
            bit = self.model.bit(*self.s("F", 0), slots, 0)
            run = run + 1 if g and bit == v[-1] else 1
            v.append(bit)
        return v

    def row(self, r, lives):
        [c0], [k0], [s0] = self.s("C", 0), self.s("K", 0), self.s("S", 0)
        self.row_cell, self.row_group = Slot(c0.chance, 3), Slot(k0.chance, 3)
        self.row_sign = Slot(s0.chance, 1)
        self.signs = self.last = before = pattern = 0
        for g in range(self.groups):
            if not lives[g]:
                continue
            if self.size > 1:
                bit = self.kernel(g, pattern, before)
                pattern = (pattern << 1 | bit) & 15
                if not bit:
                    before = 0
                    continue
            before = self.cells(r, g, before)

    def kernel(self, g, t, before):
        m, h = self.model, self.group_past[g]
        [k0] = self.s("K", 0)
        rho = m.level(self.row_group, k0)
        slots = [self.group[g], self.row_group,
                 *self.s("K", 1 + 32 * rho + m.level(self.group[g], k0), 1025 + h,
                         1281 + 8 * t + min(before, 7), 1409 + 32 * self.fed[g] + rho)]  # fmt: skip
        bit = m.bit(k0, slots, 2, h & 3)
        self.group_past[g] = (h << 1 | bit) & 255
        return bit

    def cells(self, r, g, before):
        found, tree = 0, 1
        for k in range(self.size):
            c = g * self.size + k
            if self.size == 1:
                bit = self.cell(r, c)
            elif k == self.size - 1 and not found:
                bit = 1
            else:
                bit = self.kernel_cell(r, g, k, c, found, tree, before)
            tree = (tree << 1 | bit) & 511
            if bit:
                self.levels[r, c] = self.entry(r, g, k, c, found)
                found += 1
            self.past[c] = (self.past[c] << 1 | bit) & 255
            if bit:
                self.above[c] = int(self.levels[r, c])
        return found

    def kernel_cell(self, r, g, k, c, found, tree, before):
        m, size, w = self.model, self.size, self.width

        def x(i):
            return int(self.levels[r, c - i] != 0)

        near = sides = 0
        if k % w > 0:
            near += x(1)
        if k >= w:
            near += 2 * x(w)
            if k % w > 0:
                near += 4 * x(w + 1)
            if k % w < w - 1:
                near += 8 * x(w - 1)
        if g > 0:
            sides += x(size)
        if r > 0:
            sides += 2 * int(self.levels[r - 1, c] != 0)
        kappa = min(k, 31)
        [c0] = self.s("C", 0)
        joint = 1 + 32 * m.level(self.row_cell, c0) + m.level(self.column[c], c0)
        slots = [self.column[c],
                 *self.s("C", joint,
                         1025 + 8 * (self.past[c] & 31) + 2 * min(found, 3) + (sides & 1),
                         1281 + 16 * kappa + near,
                         1793 + (tree if size <= 9 else 16 * kappa + min(found, 15)),
                         2305 + 4 * (8 * kappa + min(before, 7)) + sides)]  # fmt: skip
        bit = m.bit(c0, slots, 3, 8 + near)
        self.row_cell.chance, self.row_cell.count = self.row_cell.learn(bit)
        return bit

    def cell(self, r, c):
        m, lag = self.model, self.lag

        def x(i):
            return int(c >= i and self.levels[r, c - i] != 0)

        near = x(1) + 2 * x(2) + 4 * x(lag)
        if lag > 1:
            near += 8 * x(lag - 1) * (c >= lag) + 16 * x(lag + 1)
        [c0] = self.s("C", 0)
        rho, own = m.level(self.row_cell, c0), m.level(self.column[c], c0)
        around = 0
        for other in (c - 1, c + 1, c - lag, c + lag):
            inside = 0 <= other < self.groups
            around += m.level(self.column[other], c0) if inside else own
        slots = [self.column[c], self.row_cell,
                 *self.s("C", 1 + 32 * rho + own, 3400 + 8 * rho + self.fed[c], 3700 + near,
                         4096 + 32 * (around >> 2) + own)]  # fmt: skip
        return m.bit(c0, slots, 4, 24 + near)

    def entry(self, r, g, k, c, found):
        m, n, above = self.model, self.negative, self.above[c]
        sign = 1
        if n:
            sign = self.sign(r, g, k, c, found) if self.positive else 0
        entries = self.positive if sign else n
        if above > n:
            above -= n
        [c0] = self.s("C", 0)
        row = min(m.level(self.row_cell, c0), 23)
        column = min(m.level(self.column[c], c0), 23)
        rank, node = 0, 1
        for j in reversed(range(bits(entries - 1))):
            if rank + (1 << j) >= entries:
                node <<= 1
                continue
            q = 96 * (min(node, 255) + 256 * sign)
            slots = self.s("M", q + 1 + min(self.last, 15), q + 17 + min(above, 15), q + 33 + row,
                           q + 57 + column, q + 81 + min(found, 7), q + 89 + min(k, 6))  # fmt: skip
            bit = m.bit(*self.s("M", q), slots, 8 + min(node, 15))
            node = node << 1 | bit
            rank |= bit << j
        self.signs = (self.signs << 1 | sign) & 15
        self.last = rank + 1
        return rank + 1 + n * sign

    def sign(self, r, g, k, c, found):
        def sigma(level):
            return 0 if level == 0 else 1 + int(level > self.negative)

        def back(i):
            return sigma(self.levels[r, c - i]) if c >= i else 0

        size, w = self.size, self.width
        first = 1 if size == 1 or k % w > 0 else size
        second = self.lag if size == 1 else w if k >= w else 2 * size
        near, over, kappa = back(first) + 3 * back(second), sigma(self.above[c]), min(k, 31)
        slots = [*self.s("S", 1 + near + 9 * over, 32 + 32 * (self.signs & 3) + kappa),
                 self.row_sign,
                 self.group_sign[g],
                 *self.s("S", 160 + self.signs + 16 * min(found, 3),
                         224 + near + 9 * kappa)]  # fmt: skip
        return self.model.bit(*self.s("S", 0), slots, 5)


# --- section 8 -----------------------------------------------------------------------------------


def raw(model, shape, dtype, role, units=None, others=None):
    """A raw tensor's values; ``others`` is brought up to date."""
    tau, size = TYPES.index(dtype.name), math.prod(shape)
    units = [16] * size if units is None else units
    others = [0] * size if others is None else others
    layout = {"float16": (5, 10), "float32": (8, 23)}.get(dtype.name)
    values, before = [], 0
    for i in range(size):
        if i == 1:
            one, two, three = (
                model.hashed(*n) for n in ((19, tau, role, 0), (20, tau, 0, 0), (21, role, 0, 0))
            )
            if model.bit(model.slot(("B", 512 * tau)), [one, two, three] * 2, 7):
                values = values * size
                break
        if layout:
            head, value = floating(model, tau, role, *layout, units[i], others[i], before)
            others[i] = before = head
        else:
            before = value = integer(model, tau, role, dtype.itemsize, before)
        values.append(value & 1 if dtype.name == "bool" else value)
    unsigned = np.array(values, np.uint64).astype(f"u{dtype.itemsize}")
    return unsigned.view(dtype).reshape(shape)


def floating(model, tau, role, e_bits, f_bits, u, o, p):
    omega, v, node = tau + 8 * role, min(u, 1), 1
    for j in range(e_bits, -1, -1):
        slots = [model.hashed(*n) for n in (
            (1, tau, role, node), (2, omega, u, node), (3, omega, p, node), (4, tau, v, node),
            (5, omega, o, node), (6, tau, p + 512 * v, node))]  # fmt: skip
        bit = model.bit(model.slot(("B", 512 * tau + node)), slots, 32 + j)
        node = node << 1 | bit
    head = node - (2 << e_bits)
    e, mantissa, tree = head % (1 << e_bits), 0, 1
    for j in range(f_bits - 1, -1, -1):
        z = int(mantissa == 0)
        slots = [model.hashed(*n) for n in (
            (7, tau, role, j), (8, tau, e, j), (9, tau, e + j, int(e == 0)),
            (10, omega, 2 * z + (tree & 1), j), (11, tau, tree, j),
            (12, omega, int(head == p), j))]  # fmt: skip
        bit = model.bit(model.slot(("D", 64 * tau + j)), slots, 48 + j)
        mantissa = mantissa << 1 | bit
        tree = (tree << 1 | bit) & 15
    return head, head << f_bits | mantissa


def integer(model, tau, role, size, before):
    value, last = 0, 0
    for j in range(size - 1, -1, -1):
        p, z, node = before >> 8 * j & 255, int(value == 0), 1
        for i in range(7, -1, -1):
            slots = [model.hashed(*n) for n in (
                (13, tau, j, node), (14, tau + 8 * role, j, node), (15, tau, 256 * j + p, node),
                (16, tau, 256 * j + last, node), (17, tau, j, i), (18, tau, z, node))]  # fmt: skip
            node = node << 1 | model.bit(model.slot(("B", 512 * tau + node)), slots, 72 + i)
        last = node & 255
        value = value << 8 | last
    return value


# --- sections 1 to 3 and 6 -----------------------------------------------------------------------


def matrix_shape(shape):
    return (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, shape[0])


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


def directory(source, names):
    """The entries, in order."""
    entries, rows, codebook = [], None, 0
    for name in names:
        flags = source.take(1)[0]
        entry = {"name": name, "raw": bool(flags & 1)}
        if entry["raw"]:
            d = flags >> 5
            if d == 7:
                entry["shape"] = (rows,)
            else:
                d = source.varint() if d == 6 else d
                entry["shape"] = tuple(source.varint() for _ in range(d))
            entry |= {"dtype": np.dtype(TYPES[flags >> 1 & 7]), "trainable": not flags & 16}
        else:
            entry["conv"] = bool(flags & 2)
            entry["shape"] = tuple(source.varint() for _ in range((flags >> 2 & 3) + 1))
            entry["scale"] = struct.unpack("<f", source.take(4))[0] if flags & 16 else 1.0
            codebook = entry["codebook"] = source.varint() if flags & 32 else codebook
            entry["lag"] = source.take(1)[0] if flags & 64 else 1
            rows = matrix_shape(entry["shape"])[0]
        entries.append(entry)
    return entries


def decode(data):
    """(codebooks, {name: (entry, values)}, architecture, input, notes) of a file's bytes."""
    assert data[:4] == b"SWS\x02"
    assert zlib.crc32(data[:-4]) == struct.unpack("<I", data[-4:])[0]
    source = Bytes(data[:-4])
    source.take(4)
    packed = zlib.decompressobj(-15, preset_dictionary())
    names, architecture, spec, *notes = json.loads(packed.decompress(source.take(source.varint())))
    sizes = [source.varint() for _ in range(source.varint())]
    entries = directory(source, names)
    model = Model(source.data[source.at :])
    codebooks = []
    for size, wide in (divmod(n, 2) for n in sizes):
        dtype = np.dtype(np.float32 if wide else np.float16)
        rest = raw(model, (size - 1,), dtype, 4)
        codebooks.append(np.concatenate([np.zeros(1, dtype), rest]))
    matrices, before = {}, None
    for entry in (e for e in entries if not e["raw"]):
        shape = matrix_shape(entry["shape"])
        matrices[entry["name"]] = np.zeros(shape, np.int64)
        if math.prod(shape):
            found = Matrix(model, entry, codebooks[entry["codebook"]], before).decode()
            matrices[entry["name"]] = found
        before = matrices[entry["name"]]
    values = raw_tensors(model, entries, matrices)
    tensors = {}
    for entry in entries:
        name = entry["name"]
        found = values[name] if entry["raw"] else matrices[name].reshape(entry["shape"])
        tensors[name] = (entry, found)
    return codebooks, tensors, architecture, spec, notes[0] if notes else {}


def raw_tensors(model, entries, matrices):
    values, units, others, role = {}, None, None, 0
    quantized = [e["name"] for e in entries if not e["raw"]]
    for entry in entries:
        if not entry["raw"]:
            rows, role = matrices[entry["name"]], 0
            units = [min(15, bits(np.count_nonzero(row))) for row in rows]
            others = [0] * len(units)
            place = quantized.index(entry["name"])
            if place + 1 < len(quantized) and len(rows):
                after = matrices[quantized[place + 1]]
                if after.shape[1] % len(rows) == 0:
                    m = after.shape[1] // len(rows)
                    for r in range(len(rows)):
                        if not after[:, m * r : m * r + m].any():
                            units[r] = 0
            continue
        shape, dtype = entry["shape"], entry["dtype"]
        known = units is not None and shape == (len(units),)
        own = (units, others) if known else (None, None)
        values[entry["name"]] = raw(model, shape, dtype, min(role, 3), *own)
        role += 1
    return values
