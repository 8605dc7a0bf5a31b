"""The coder's inner loops: binary range coding under mixed, adaptive probabilities, in integers.

Every function here is plain Python over flat sequences of integers. :mod:`sws.codec.compiled` has
numba compile them; without it they run as they are, on lists, and give the same bytes. Writing and
reading are one function: it is given each bit (ignored when reading) and returns what was coded.

One bit is coded like this (docs/format.md, "One bit"):

1. Six *slots* are looked up, each under a context of its own. A slot is an adaptive probability: 32
   bits of P(bit = 1) above a count of 10 bits. One that has never been used starts from a seventh,
   the *base*, which knows no context.
2. Their log-odds, in 1/256 bit, are weighted and summed, which gives the mixed probability.
3. Where it says so, that is averaged with what came of the same mixed probability before, under one
   more small context (*secondary estimation*).
4. The bit is range coded; then slots, weights and secondary estimates learn from it.

Arrays
------
s : state of the range coder, and the shape of what is coded; positions are the constants below.
t : tables that do not change.
m : the model: weights, slots; from LOCAL on, what belongs to one tensor.
data : bytes of the stream.
x : values of one tensor, in order.
"""

from __future__ import annotations

# --- s -------------------------------------------------------------------------------------------
READING, LOW, RANGE, POINT, AT, END = range(6)
SPENT = 6  # 2^-16 bits charged to each of four parts
INDEXES, VALUES, CODEBOOK, RAW = range(4)
BITS, LIMIT = 10, 11  # how many bits were coded, and how many may be
ROWS, GROUPS, SIZE, WIDTH, LAG, NEGATIVE, POSITIVE = range(12, 19)
GROUP_SLOTS, SIGN_SLOTS, PAST, GROUP_PAST, UPSTREAM, ALIVE = range(19, 25)  # from COLUMNS on
TYPE, ROLE, EXPONENT, MANTISSA, PART = range(25, 30)  # of a raw tensor; SIZE: bytes, ROWS: values
STATE = 32

# --- t -------------------------------------------------------------------------------------------
BOUND = 4095  # largest log-odds, in 1/256 bit
FINE = 2048  # probabilities below it, and as close to 1, have log-odds of their own
STRETCH = 0  # log-odds of probabilities, plus 4096: fine ones, then coarse, then fine again
STRETCH_HIGH = STRETCH + FINE + 4096
SQUASH = STRETCH_HIGH + FINE  # probability of each log-odds −4095 … 4095
RATES = SQUASH + 8192  # how far a slot moves at each count
TABLES = RATES + 1024

# --- m -------------------------------------------------------------------------------------------
COSTS = 0  # 2^-16 bits that a symbol of probability k / 4096 costs
WEIGHTS = COSTS + 4096  # sets of eight (six are used)
SETS = 128
SECONDARY = WEIGHTS + 8 * SETS  # curves of 33 points, 64 apart
CURVES = 64
SLOTS = SECONDARY + 64 * CURVES
COLUMN_FLAG = SLOTS
ROW_FLAG = COLUMN_FLAG + 512
GROUP = ROW_FLAG + 512
CELL = GROUP + 2048
SIGN = CELL + 8192
MAGNITUDE = SIGN + 1024
RAW_SLOTS = MAGNITUDE + 512 * 96
MODEL = RAW_SLOTS + 8192 + 65536

COLUMN_SET, ROW_SET, GROUP_SET, KERNEL_SET, CELL_SET, SIGN_SET = range(6)
MAGNITUDE_SET, RAW_SET, SAME_SET = 8, 32, 7

LOCAL = MODEL  # what belongs to one tensor: row slots, and for each column its slots and its past
ROW_CELL, ROW_GROUP, ROW_SIGN = LOCAL, LOCAL + 1, LOCAL + 2
COLUMNS = LOCAL + 8

RATE = 5  # of the weights
COUNT = 1023  # mask of a slot's count
FULL = 65536
HALF = 1 << 17
ANY = (1 << 40) - 1  # no position is negative: what a compiler may then leave out


def code_bit(s, data, ones, bit):
    """Range code one bit whose probability of being 1 is ones / 65536."""
    split = (s[RANGE] >> 16) * ones
    if s[READING]:
        bit = 1 if s[POINT] < split else 0
    if bit:
        width = split
    else:
        width = s[RANGE] - split
        if s[READING]:
            s[POINT] -= split
        else:
            s[LOW] += split
    while width < 1 << 40:
        width <<= 8
        if s[READING]:
            byte = 0
            if s[AT] < s[END]:
                byte = data[s[AT]]
            s[POINT] = s[POINT] << 8 | byte
            s[AT] += 1
        else:
            low = s[LOW]
            if low >> 48:
                at = s[AT] - 1
                while data[at] == 255:
                    data[at] = 0
                    at -= 1
                data[at] += 1
            if s[AT] < s[END]:
                data[s[AT]] = low >> 40 & 255
                s[AT] += 1
            else:
                s[AT] = s[END] + 1
                return bit
            s[LOW] = (low & 0xFFFFFFFFFF) << 8
    s[RANGE] = width
    return bit


def code_mixed(s, t, m, data, base, a, b, c, d, e, f, weights, curve, part, bit):
    """Code one bit under slots a … f and their base; ``curve`` < 0: no secondary estimation."""
    start = m[base & ANY]
    va, vb, vc = seen(m[a & ANY], start), seen(m[b & ANY], start), seen(m[c & ANY], start)
    vd, ve, vf = seen(m[d & ANY], start), seen(m[e & ANY], start), seen(m[f & ANY], start)
    sa, sb, sc = stretch(t, va), stretch(t, vb), stretch(t, vc)
    sd, se, sf = stretch(t, vd), stretch(t, ve), stretch(t, vf)
    w = weights & ANY
    wa, wb, wc, wd, we, wf = m[w], m[w + 1], m[w + 2], m[w + 3], m[w + 4], m[w + 5]
    mixed = sa * wa + sb * wb + sc * wc + sd * wd + se * we + sf * wf >> 16
    mixed = min(max(mixed, -BOUND), BOUND)
    ones = t[SQUASH + BOUND + mixed & ANY]
    final = ones
    point = 0
    if curve >= 0:
        point = curve + (mixed + 4096 >> 8) & ANY
        share = mixed & 255
        final = m[point] * (256 - share) + m[point + 1] * share >> 16
        final = min(max(ones + final >> 1, 1), 65535)
        point += share >> 7
    bit = code_bit(s, data, final, bit)
    s[SPENT + part] += m[COSTS + ((final if bit else FULL - final) >> 4) & ANY]
    s[BITS] += 1
    error = ((bit << 16) - ones) * RATE
    m[w] = wa + (sa * error + HALF >> 18)
    m[w + 1] = wb + (sb * error + HALF >> 18)
    m[w + 2] = wc + (sc * error + HALF >> 18)
    m[w + 3] = wd + (sd * error + HALF >> 18)
    m[w + 4] = we + (se * error + HALF >> 18)
    m[w + 5] = wf + (sf * error + HALF >> 18)
    target = bit << 32
    m[a & ANY] = moved(t, va, target)
    m[b & ANY] = moved(t, vb, target)
    m[c & ANY] = moved(t, vc, target)
    m[d & ANY] = moved(t, vd, target)
    m[e & ANY] = moved(t, ve, target)
    m[f & ANY] = moved(t, vf, target)
    m[base & ANY] = moved(t, start, target)
    if curve >= 0:
        m[point & ANY] += (bit << 24) - m[point & ANY] >> 6
    return bit


def seen(value, start):
    """What is in a slot, or, if it was never used, the probability of its base."""
    if value & COUNT == 0:
        value = start & ~COUNT
    return value


def stretch(t, value):
    """A slot's log-odds in 1/256 bit."""
    chance = value >> 26
    if chance < FINE:
        place = STRETCH + chance
    elif chance < FULL - FINE:
        place = STRETCH + FINE + (chance >> 4)
    else:
        place = STRETCH_HIGH + chance - (FULL - FINE)
    return t[place & ANY] - 4096


def moved(t, value, target):
    """A slot after a bit: the smaller its count, the further it moves."""
    count = value & COUNT
    chance = value >> 10
    chance += (target - chance) * t[RATES + count] >> 16
    return chance << 10 | min(count + 1, COUNT)


def level(t, m, slot, base):
    """A slot's probability in half bits of log-odds, 0 … 31."""
    value = seen(m[slot & ANY], m[base])
    return min(max((stretch(t, value) >> 7) + 22, 0), 31)


def length(n):
    """Bits of a number."""
    bits = 0
    while n:
        n >>= 1
        bits += 1
    return bits
