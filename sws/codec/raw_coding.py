"""The inner loop for values that are stored as they are: biases, batch normalisation, codebooks.

A value is the number that its bits make. A floating-point number is its sign and exponent, bit by
bit as a path through a binary tree, then its mantissa from the most significant bit down. Mantissas
that a quantiser has rounded end in zeros, either relative to the value (so many bits each) or at
one absolute place; both are contexts, and mixing finds out. Integers are a path for each byte.
"""

from __future__ import annotations

from sws.codec.bit_coding import (
    EXPONENT,
    MANTISSA,
    PART,
    RAW_SET,
    RAW_SLOTS,
    READING,
    ROLE,
    ROWS,
    SAME_SET,
    SIZE,
    TYPE,
    WEIGHTS,
    code_mixed,
)

HEAD_BASE = RAW_SLOTS  # bases: type and node
PLACE_BASE = RAW_SLOTS + 8 * 512
HASHED = RAW_SLOTS + 8192


def hashed(kind, a, b, c):
    """The slot of a context: three small numbers, kind says of what. Collisions do no harm."""
    return HASHED + ((kind * 40503 + a * 10007 + b * 31337 + c * 7) & 65535)


def code_head(s, t, m, data, role, unit, before, other, value):
    """Sign and exponent: a path of 1 + EXPONENT bits."""
    kind, exponent = s[TYPE], s[EXPONENT]
    node = 1
    for k in range(exponent, -1, -1):
        base = HEAD_BASE + 512 * kind + (node & 511)
        a = hashed(1, kind, role, node)
        b = hashed(2, kind + 8 * role, unit, node)
        c = hashed(3, kind + 8 * role, before, node)
        d = hashed(4, kind, min(unit, 1), node)
        e = hashed(5, kind + 8 * role, other, node)
        f = hashed(6, kind, before + 512 * min(unit, 1), node)
        weights = WEIGHTS + 8 * (RAW_SET + k)
        node = node << 1 | code_mixed(
            s, t, m, data, base, a, b, c, d, e, f, weights, -1, s[PART], value >> k & 1
        )
    return node & (2 << exponent) - 1


def code_mantissa(s, t, m, data, role, head, before, value):
    """The bits of the mantissa, most significant first."""
    kind, places = s[TYPE], s[MANTISSA]
    exponent = head & (1 << s[EXPONENT]) - 1
    coded, node = 0, 1
    for k in range(places - 1, -1, -1):
        base = PLACE_BASE + 64 * kind + k
        a = hashed(7, kind, role, k)
        b = hashed(8, kind, exponent, k)
        c = hashed(9, kind, exponent + k, exponent == 0)
        d = hashed(10, kind + 8 * role, 2 * (coded == 0) + (node & 1), k)
        e = hashed(11, kind, min(node, 15), k)
        f = hashed(12, kind + 8 * role, head == before, k)
        weights = WEIGHTS + 8 * (RAW_SET + 16 + k)
        bit = code_mixed(
            s, t, m, data, base, a, b, c, d, e, f, weights, -1, s[PART], value >> k & 1
        )
        coded = coded << 1 | bit
        node = node << 1 & 15 | bit
    return head << places | coded


def code_integer(s, t, m, data, role, before, value):
    """The bytes of an integer, most significant first."""
    kind = s[TYPE]
    coded = 0
    for j in range(s[SIZE] - 1, -1, -1):
        byte, last, node = value >> 8 * j & 255, coded & 255, 1
        same = before >> 8 * j & 255
        for k in range(7, -1, -1):
            base = HEAD_BASE + 512 * kind + node
            a = hashed(13, kind, j, node)
            b = hashed(14, kind + 8 * role, j, node)
            c = hashed(15, kind, 256 * j + same, node)
            d = hashed(16, kind, 256 * j + last, node)
            e = hashed(17, kind, j, k)
            f = hashed(18, kind, coded == 0, node)
            weights = WEIGHTS + 8 * (RAW_SET + 40 + k)
            node = node << 1 | code_mixed(
                s, t, m, data, base, a, b, c, d, e, f, weights, -1, s[PART], byte >> k & 1
            )
        coded = coded << 8 | node & 255
    return coded


def code_same(s, t, m, data, y, role):
    """Whether all values are equal to the first."""
    same = 1
    if not s[READING]:
        for i in range(1, s[ROWS]):
            if y[i] != y[0]:
                same = 0
                break
    base = HEAD_BASE + 512 * s[TYPE]
    a = hashed(19, s[TYPE], role, 0)
    b = hashed(20, s[TYPE], 0, 0)
    c = hashed(21, role, 0, 0)
    weights = WEIGHTS + 8 * SAME_SET
    return code_mixed(s, t, m, data, base, a, b, c, a, b, c, weights, -1, s[PART], same)


def code_raw(s, t, m, data, y, units):
    """Code the values ``y`` of one tensor.

    ``units`` holds, for each value, what is known of the unit it belongs to: 0 none of its weights
    is left, 1 … 15 the bits of their number, 16 not known; above, times 32, the head that the
    tensor before gave the same unit, which this one's replaces.
    """
    role = s[ROLE]
    before = 0
    same = 0
    for i in range(s[ROWS]):
        value = y[i]
        if i == 1:
            same = code_same(s, t, m, data, y, role)
        if same:
            value = y[0]
        elif s[EXPONENT]:
            unit = units[i]
            head = code_head(
                s, t, m, data, role, unit & 31, before, unit >> 5, value >> s[MANTISSA]
            )
            value = code_mantissa(s, t, m, data, role, head, before, value)
            units[i] = unit & 31 | head << 5
            before = head
        else:
            value = code_integer(s, t, m, data, role, before, value)
            before = value
        y[i] = value
