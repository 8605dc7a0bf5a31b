"""The inner loop for a tensor of codebook indexes: which are not zero, then which entry each is.

What survives pruning is not spread evenly. Border pixels are never used, hidden units die, a unit
that looks at a pixel looks at its neighbours, and whole kernels vanish. A tensor is rows (output
units) of groups (inputs) of cells (a kernel's places; one, where there are no kernels):

1. for each column of groups, whether it has any non-zero; for each row, when its turn comes, too;
2. in the rows and columns that live, whether a kernel has any;
3. in the kernels that do, which of its weights;
4. right after, which entry of the codebook that is: its sign, then its magnitude.

Contexts are the densities of row and column so far, the column's past, neighbours in the kernel, in
the row at a lag (the row of an image above) and in the row before.
"""

from __future__ import annotations

from sws.codec.bit_coding import (
    ALIVE,
    AT,
    BITS,
    CELL,
    CELL_SET,
    COLUMN_FLAG,
    COLUMN_SET,
    COLUMNS,
    COUNT,
    END,
    GROUP,
    GROUP_PAST,
    GROUP_SET,
    GROUP_SLOTS,
    GROUPS,
    INDEXES,
    KERNEL_SET,
    LAG,
    LIMIT,
    MAGNITUDE,
    MAGNITUDE_SET,
    NEGATIVE,
    PAST,
    POSITIVE,
    READING,
    ROW_CELL,
    ROW_FLAG,
    ROW_GROUP,
    ROW_SET,
    ROW_SIGN,
    ROWS,
    SECONDARY,
    SIGN,
    SIGN_SET,
    SIGN_SLOTS,
    SIZE,
    UPSTREAM,
    VALUES,
    WEIGHTS,
    WIDTH,
    code_mixed,
    length,
    level,
    moved,
)


def code_columns(s, t, m, data):
    """Which columns have no non-zero at all."""
    groups = s[GROUPS]
    up, alive = COLUMNS + s[UPSTREAM], COLUMNS + s[ALIVE]
    lag = s[LAG]
    run = 0
    base = COLUMN_FLAG
    for g in range(groups):
        one = m[alive + g - 1] if g > 0 else 2
        two = m[alive + g - 2] if g > 1 else 2
        far = m[alive + g - lag] if g >= lag else 2
        right = m[alive + g - lag + 1] if g >= lag and lag > 1 else 2
        left = m[alive + g - lag - 1] if g > lag else 2
        feeding = m[up + g]
        a = COLUMN_FLAG + 1 + one + 3 * two + 9 * far
        b = COLUMN_FLAG + 32 + one + 3 * far + 9 * left + 27 * right
        c = COLUMN_FLAG + 128 + feeding
        d = COLUMN_FLAG + 136 + min(length(run), 7) * 2 + (one & 1)
        e = COLUMN_FLAG + 152 + feeding * 3 + one
        f = COLUMN_FLAG + 180 + one
        bit = code_mixed(
            s,
            t,
            m,
            data,
            base,
            a,
            b,
            c,
            d,
            e,
            f,
            WEIGHTS + 8 * COLUMN_SET,
            -1,
            INDEXES,
            m[alive + g],
        )
        m[alive + g] = bit
        run = run + 1 if g > 0 and bit == one else 1


def code_row_flag(s, t, m, data, row, past, run, bit):
    """Whether a row has a non-zero; ``past``: the flags of the rows before, the last one lowest."""
    base = ROW_FLAG
    a = ROW_FLAG + 1 + (past & 1)
    b = ROW_FLAG + 4 + (past & 3)
    c = ROW_FLAG + 16 + (past & 15)
    d = ROW_FLAG + 32 + (past & 255)
    e = ROW_FLAG + 300 + 2 * min(length(run), 7) + (past & 1)
    f = ROW_FLAG + 320 + min(length(row), 15)
    return code_mixed(
        s, t, m, data, base, a, b, c, d, e, f, WEIGHTS + 8 * ROW_SET, -1, INDEXES, bit
    )


def code_group(s, t, m, data, g, pattern, before, bit):
    """Whether a kernel has a non-zero."""
    past = m[COLUMNS + s[GROUP_PAST] + g]
    column = COLUMNS + s[GROUP_SLOTS] + g
    row = level(t, m, ROW_GROUP, GROUP)
    base = GROUP
    a = column
    b = ROW_GROUP
    c = GROUP + 1 + row * 32 + level(t, m, column, GROUP)
    d = GROUP + 1025 + past
    e = GROUP + 1281 + (pattern & 15) * 8 + min(before, 7)
    f = GROUP + 1409 + m[COLUMNS + s[UPSTREAM] + g] * 32 + row
    curve = SECONDARY + 64 * (past & 3)
    bit = code_mixed(
        s, t, m, data, base, a, b, c, d, e, f, WEIGHTS + 8 * GROUP_SET, curve, INDEXES, bit
    )
    m[COLUMNS + s[GROUP_PAST] + g] = past << 1 & 255 | bit
    return bit


def code_kernel_cell(s, t, m, data, x, at, column, place, tree, found, before, bit):
    """Whether a weight of a kernel that has non-zeros is one of them."""
    size, width = s[SIZE], s[WIDTH]
    near = 0
    if place % width > 0 and x[at - 1]:
        near = 1
    if place >= width:
        if x[at - width]:
            near |= 2
        if place % width > 0 and x[at - width - 1]:
            near |= 4
        if place % width < width - 1 and x[at - width + 1]:
            near |= 8
    sides = 0
    if column >= size and x[at - size]:
        sides = 1
    if at >= s[GROUPS] * size and x[at - s[GROUPS] * size]:
        sides |= 2
    past = m[COLUMNS + s[PAST] + column] & 255
    slot = COLUMNS + column
    short = min(place, 31)
    base = CELL
    a = slot
    b = CELL + 1 + level(t, m, ROW_CELL, CELL) * 32 + level(t, m, slot, CELL)
    c = CELL + 1025 + (past & 31) * 8 + min(found, 3) * 2 + (sides & 1)
    d = CELL + 1281 + short * 16 + near
    e = CELL + 1793 + (tree if size <= 9 else short * 16 + min(found, 15))
    f = CELL + 2305 + (short * 8 + min(before, 7)) * 4 + sides
    # the row's own slot learns too, though it is no input
    curve = SECONDARY + 64 * (8 + near)
    bit = code_mixed(
        s, t, m, data, base, a, b, c, d, e, f, WEIGHTS + 8 * KERNEL_SET, curve, INDEXES, bit
    )
    m[ROW_CELL] = moved(t, m[ROW_CELL], bit << 32)
    return bit


def code_cell(s, t, m, data, x, at, column, bit):
    """Whether a weight of a matrix is not zero."""
    lag = s[LAG]
    near = 0
    if column > 0 and x[at - 1]:
        near = 1
    if column > 1 and x[at - 2]:
        near |= 2
    if column >= lag:
        if x[at - lag]:
            near |= 4
        if lag > 1:
            if x[at - lag + 1]:
                near |= 8
            if column > lag and x[at - lag - 1]:
                near |= 16
    slot = COLUMNS + column
    row = level(t, m, ROW_CELL, CELL)
    own = level(t, m, slot, CELL)
    around = 4 * own
    if column > 0:
        around += level(t, m, slot - 1, CELL) - own
    if column + 1 < s[GROUPS]:
        around += level(t, m, slot + 1, CELL) - own
    if column >= lag:
        around += level(t, m, slot - lag, CELL) - own
    if column + lag < s[GROUPS]:
        around += level(t, m, slot + lag, CELL) - own
    base = CELL
    a = slot
    b = ROW_CELL
    c = CELL + 1 + row * 32 + own
    d = CELL + 3400 + row * 8 + m[COLUMNS + s[UPSTREAM] + column]
    e = CELL + 3700 + near
    f = CELL + 4096 + (around >> 2) * 32 + own
    curve = SECONDARY + 64 * (24 + near)
    return code_mixed(
        s, t, m, data, base, a, b, c, d, e, f, WEIGHTS + 8 * CELL_SET, curve, INDEXES, bit
    )


def code_value(s, t, m, data, x, at, column, place, found, signs, last, value):
    """Which of the non-zero entries a weight is: sign, then magnitude, most significant bit first.

    Levels 1 … n are the negative entries by magnitude, n + 1 … n + p the others.
    """
    size, width, negative, positive = s[SIZE], s[WIDTH], s[NEGATIVE], s[POSITIVE]
    group = column // size
    cells = COLUMNS + s[PAST] + column
    above = m[cells] >> 8  # the level of this column's last non-zero
    sign = 1 if value > negative else 0
    if negative == 0:
        sign = 1
    elif positive > 0:
        step = 1 if size == 1 or place % width > 0 else size
        near = 0
        if column >= step and x[at - step]:
            near = 1 + (x[at - step] > negative)
        step = s[LAG] if size == 1 else (width if place >= width else 2 * size)
        if column >= step and x[at - step]:
            near += 3 * (1 + (x[at - step] > negative))
        over = 0 if above == 0 else 1 + (above > negative)
        short = min(place, 31)
        base = SIGN
        a = SIGN + 1 + near + 9 * over
        b = SIGN + 32 + (signs & 3) * 32 + short
        c = ROW_SIGN
        d = COLUMNS + s[SIGN_SLOTS] + group
        e = SIGN + 160 + (signs & 15) + 16 * min(found, 3)
        f = SIGN + 224 + near + 9 * short
        sign = code_mixed(
            s, t, m, data, base, a, b, c, d, e, f, WEIGHTS + 8 * SIGN_SET, -1, VALUES, sign
        )
    first = negative + 1 if sign else 1
    entries = positive if sign else negative
    rank = value - first
    rows = level(t, m, ROW_CELL, CELL)
    columns = level(t, m, COLUMNS + column, CELL)
    if above > negative:
        above -= negative
    above, last = min(above, 15), min(last, 15)
    node, coded = 1, 0
    for k in range(length(max(entries - 1, 0)) - 1, -1, -1):
        if coded | 1 << k >= entries:
            node <<= 1
            continue
        base = MAGNITUDE + 96 * (min(node, 255) + 256 * sign)
        base = base
        a = base + 1 + last
        b = base + 17 + above
        c = base + 33 + min(rows, 23)
        d = base + 57 + min(columns, 23)
        e = base + 81 + min(found, 7)
        f = base + 89 + min(place, 6)
        chosen = WEIGHTS + 8 * (MAGNITUDE_SET + min(node, 15))
        bit = code_mixed(s, t, m, data, base, a, b, c, d, e, f, chosen, -1, VALUES, rank >> k & 1)
        node = node << 1 | bit
        coded |= bit << k
    return first + coded


def code_matrix(s, t, m, data, x):
    """Code the levels of one tensor: rows × groups × size; returns nothing but in ``x``."""
    rows, groups, size = s[ROWS], s[GROUPS], s[SIZE]
    columns = groups * size
    past = COLUMNS + s[PAST]
    alive = COLUMNS + s[ALIVE]
    code_columns(s, t, m, data)
    flags, run = 1, 1
    for row in range(rows):
        start = row * columns
        bit = 0
        if not s[READING]:
            for at in range(start, start + columns):
                if x[at]:
                    bit = 1
                    break
        bit = code_row_flag(s, t, m, data, row, flags, run, bit)
        run = run + 1 if bit == flags & 1 else 1
        flags = flags << 1 & 255 | bit
        if bit == 0:
            continue
        m[ROW_CELL] = m[CELL] & ~COUNT | 3
        m[ROW_GROUP] = m[GROUP] & ~COUNT | 3
        m[ROW_SIGN] = m[SIGN] & ~COUNT | 1
        before, pattern, signs, last = 0, 0, 0, 0
        for g in range(groups):
            if m[alive + g] == 0:
                continue
            if s[BITS] > s[LIMIT] or (s[AT] > s[END] and not s[READING]):
                return
            at = start + g * size
            if size > 1:
                bit = 0
                if not s[READING]:
                    for k in range(at, at + size):
                        if x[k]:
                            bit = 1
                            break
                bit = code_group(s, t, m, data, g, pattern, before, bit)
                pattern = pattern << 1 & 255 | bit
                if bit == 0:
                    before = 0
                    continue
            tree, found = 1, 0
            for place in range(size):
                column = g * size + place
                value = x[at + place]
                bit = 1 if value else 0
                if size == 1:
                    bit = code_cell(s, t, m, data, x, at, column, bit)
                elif found or place < size - 1:
                    bit = code_kernel_cell(
                        s, t, m, data, x, at + place, column, place, tree, found, before, bit
                    )
                else:
                    bit = 1
                tree = tree << 1 & 511 | bit
                kept = m[past + column]
                if bit:
                    value = code_value(
                        s, t, m, data, x, at + place, column, place, found, signs, last, value
                    )
                    x[at + place] = value
                    signs = signs << 1 & 15 | (value > s[NEGATIVE])
                    last = value - s[NEGATIVE] if value > s[NEGATIVE] else value
                    kept = value << 8 | kept & 255
                    found += 1
                m[past + column] = kept & ~255 | kept << 1 & 254 | bit
            before = found
