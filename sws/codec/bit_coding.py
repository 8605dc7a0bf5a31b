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
m : the model: tables, weights, slots; from LOCAL on, what belongs to one tensor.
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
INPUT, BASE, FOUND, STRETCHED = 32, 38, 39, 45  # six slots, their base, what is in them
STATE = 64

# --- m -------------------------------------------------------------------------------------------
BOUND = 4095  # largest log-odds, in 1/256 bit
STRETCH = 0  # log-odds of each probability 0 … 65535
SQUASH = STRETCH + 65536  # probability of each log-odds −4095 … 4095
RATES = SQUASH + 8192  # how far a slot moves at each count
COSTS = RATES + 1024  # 2^-16 bits that a symbol of probability k / 4096 costs
WEIGHTS = COSTS + 4096  # sets of eight (six are used)
SETS = 256
SECONDARY = WEIGHTS + 8 * SETS  # curves of 33 points, 64 apart
CURVES = 64
SLOTS = SECONDARY + 64 * CURVES
COLUMN_FLAG = SLOTS
ROW_FLAG = COLUMN_FLAG + 512
GROUP = ROW_FLAG + 512
CELL = GROUP + 4096
SIGN = CELL + 8192
MAGNITUDE = SIGN + 1024
RAW_SLOTS = MAGNITUDE + 512 * 96
MODEL = RAW_SLOTS + 8192 + 65536

COLUMN_SET, ROW_SET, GROUP_SET, KERNEL_SET, CELL_SET, SIGN_SET = range(6)
MAGNITUDE_SET, RAW_SET = 8, 32

LOCAL = MODEL  # what belongs to one tensor: row slots, and for each column its slots and its past
ROW_CELL, ROW_GROUP, ROW_SIGN = LOCAL, LOCAL + 1, LOCAL + 2
COLUMNS = LOCAL + 8

RATE = 5  # of the weights
COUNT = 1023  # mask of a slot's count
FULL = 65536
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


def code_mixed(s, m, data, weights, curve, part, bit):
    """Code one bit under the six slots at s[INPUT:]; ``curve`` < 0: no secondary estimation."""
    at = s[BASE]
    base = m[at]
    mixed = 0
    for k in range(6):
        value = m[s[INPUT + k] & ANY]
        if value & COUNT == 0:
            value = base & ~COUNT
        stretched = m[STRETCH + (value >> 26 & 65535)]
        s[FOUND + k] = value
        s[STRETCHED + k] = stretched
        mixed += stretched * m[weights + k & ANY]
    mixed >>= 16
    mixed = min(max(mixed, -BOUND), BOUND)
    ones = m[SQUASH + BOUND + mixed]
    final = ones
    point = 0
    if curve >= 0:
        point = curve + (mixed + 4096 >> 8)
        share = mixed & 255
        final = m[point] * (256 - share) + m[point + 1] * share >> 16
        final = min(max(ones + final >> 1, 1), 65535)
        point += share >> 7
    bit = code_bit(s, data, final, bit)
    s[SPENT + part] += m[COSTS + ((final if bit else FULL - final) >> 4)]
    s[BITS] += 1
    error = ((bit << 16) - ones) * RATE
    target = bit << 32
    for k in range(6):
        value = s[FOUND + k]
        count = value & COUNT
        chance = value >> 10
        chance += (target - chance) * m[RATES + count] >> 16
        m[s[INPUT + k] & ANY] = chance << 10 | min(count + 1, COUNT)
        m[weights + k & ANY] += s[STRETCHED + k] * error + (1 << 17) >> 18
    count = base & COUNT
    chance = base >> 10
    chance += (target - chance) * m[RATES + count] >> 16
    m[at] = chance << 10 | min(count + 1, COUNT)
    if curve >= 0:
        m[point] += (bit << 24) - m[point] >> 6
    return bit


def learn(m, slot, bit):
    """Move a slot towards the bit."""
    value = m[slot]
    count = value & COUNT
    chance = value >> 10
    chance += ((bit << 32) - chance) * m[RATES + count] >> 16
    m[slot] = chance << 10 | min(count + 1, COUNT)


def level(m, slot, base):
    """A slot's probability in half bits of log-odds, 0 … 31."""
    value = m[slot]
    if value & COUNT == 0:
        value = m[base]
    return min(max((m[STRETCH + (value >> 26 & 65535)] >> 7) + 22, 0), 31)


def length(n):
    """Bits of a number."""
    bits = 0
    while n:
        n >>= 1
        bits += 1
    return bits
