"""Kernels of the terms, and of the neighbourhoods that they read.

Imported when the first is needed: numba takes half a second. A kernel indexes whole arrays, since
each view of one would be counted, triple by triple; what it captures are numbers alone, else it
would be compiled anew in every process.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit

from tlpot.engine.compiled import kernel
from tlpot.engine.tables import INTERVALS

NAUGHT, HALF, ONE, TWO, THREE = (np.float32(x) for x in (0, 0.5, 1, 2, 3))
PER_COSINE = np.float32(INTERVALS / 2)


@kernel
def sorted_edges(first, second, vectors, species, elements, cutoff):  # type: ignore[no-untyped-def]
    """What a `Neighbourhood` holds: edges by centre, then by the element at their far end."""
    pairs, atoms = len(first), len(species)
    distance = np.empty(pairs, np.float32)
    unit = np.empty((pairs, 3), np.float32)
    begin = np.zeros(atoms * elements + 1, np.int64)
    for p in range(pairs):
        x, y, z = vectors[p, 0], vectors[p, 1], vectors[p, 2]
        r = np.sqrt(x * x + y * y + z * z)
        distance[p] = r
        unit[p, 0], unit[p, 1], unit[p, 2] = x / r, y / r, z / r
        if r <= cutoff:
            i, j = first[p], second[p]
            begin[i * elements + species[j] + 1] += 1
            begin[j * elements + species[i] + 1] += 1
    for row in range(atoms * elements):
        begin[row + 1] += begin[row]
    start = begin[::elements].copy()
    edges = begin[-1]
    pair, other = np.empty(edges, np.int64), np.empty(edges, np.int64)
    sign, length = np.empty(edges, np.float32), np.empty(edges, np.float32)
    outward, fade = np.empty((edges, 3), np.float32), np.empty((edges, 2), np.float32)
    turn = np.float32(np.pi) / cutoff
    half = np.float32(0.5)
    for p in range(pairs):
        r = distance[p]
        if r <= cutoff:
            f, s = half * np.cos(r * turn) + half, -half * turn * np.sin(r * turn)
            for end in range(2):
                i, j = (first[p], second[p]) if end == 0 else (second[p], first[p])
                row = i * elements + species[j]
                e = begin[row]
                begin[row] += 1
                side = np.float32(1 - 2 * end)
                pair[e], sign[e], other[e], length[e] = p, side, species[j], r
                fade[e, 0], fade[e, 1] = f, s
                for axis in range(3):
                    outward[e, axis] = side * unit[p, axis]
    return distance, unit, start, pair, sign, other, outward, length, fade


@kernel
def summed(by_edge, pair, sign, pairs):  # type: ignore[no-untyped-def]
    """As `Neighbourhood.by_pair`."""
    members, edges = by_edge.shape[:2]
    by_pair = np.zeros((members, pairs, 3), np.float32)
    for m in range(members):
        for e in range(edges):
            for axis in range(3):
                by_pair[m, pair[e], axis] += sign[e] * by_edge[m, e, axis]
    return by_pair


@njit(inline="always")
def place(x):  # type: ignore[no-untyped-def]
    """Interval of a table, and where in it."""
    at = min(int(x), INTERVALS - 1)
    return at, x - np.float32(at)


@njit(inline="always")
def values_at(table, at, t, count, weight, out):  # type: ignore[no-untyped-def]
    """A table's columns at a place, times a weight."""
    for k in range(count):
        cubic = table[at, 2, k] + t * table[at, 3, k]
        out[k] = weight * (table[at, 0, k] + t * (table[at, 1, k] + t * cubic))


@njit(inline="always")
def slopes_at(table, at, t, count, weight, out):  # type: ignore[no-untyped-def]
    """Their slopes, by interval, times a weight."""
    for k in range(count):
        cubic = TWO * table[at, 2, k] + THREE * t * table[at, 3, k]
        out[k] = weight * (table[at, 1, k] + t * cubic)


@njit(inline="always")
def outer(left, right, shifts, sections, out):  # type: ignore[no-untyped-def]
    """Every one of `left` times every one of `right`."""
    for k in range(shifts):
        for s in range(sections):
            out[k * sections + s] = left[k] * right[s]


@njit(inline="always")
def cosine_of(outward, a, b):  # type: ignore[no-untyped-def]
    """Of the angle between two edges."""
    x, y = outward[a, 0] * outward[b, 0], outward[a, 1] * outward[b, 1]
    return min(max(x + y + outward[a, 2] * outward[b, 2], -ONE), ONE)


@njit(inline="always")
def factors(a, b, edges, tables, shifts, sections, out):  # type: ignore[no-untyped-def]
    """Factors and slopes of the terms of two edges; the cosine between them."""
    _, _, outward, length, fade, _ = edges
    by_length, by_cosine, scale = tables
    radial, steep, angle, bend = out
    cosine, both = cosine_of(outward, a, b), fade[a, 0] * fade[b, 0]
    at, t = place((length[a] + length[b]) * HALF * scale)
    values_at(by_length, at, t, shifts, ONE, radial)
    slopes_at(by_length, at, t, shifts, HALF * scale * both, steep)
    at, t = place((cosine + ONE) * PER_COSINE)
    values_at(by_cosine, at, t, sections, ONE, angle)
    slopes_at(by_cosine, at, t, sections, PER_COSINE * both, bend)
    return cosine


@lru_cache
def radial(columns: int) -> tuple[Callable[..., Any], ...]:
    """Values, pull and push of radial terms of so many columns."""

    def values(table, scale, first, second, distance, species, out):  # type: ignore[no-untyped-def]
        for p in range(len(first)):
            at, t = place(distance[p] * scale)
            i, j = first[p], second[p]
            one, other = out[i, species[j]], out[j, species[i]]
            for k in range(columns):
                cubic = table[at, 2, k] + t * table[at, 3, k]
                term = table[at, 0, k] + t * (table[at, 1, k] + t * cubic)
                one[k] += term
                other[k] += term

    def pull(begin, end, table, scale, first, second, distance, species, unit, slopes, out):  # type: ignore[no-untyped-def]
        change = np.empty(columns, np.float32)
        for p in range(begin, end):
            at, t = place(distance[p] * scale)
            i, j = first[p], second[p]
            slopes_at(table, at, t, columns, scale, change)
            for m in range(len(slopes)):
                one, other = slopes[m, i, species[j]], slopes[m, j, species[i]]
                along = NAUGHT
                for k in range(columns):
                    along += (one[k] + other[k]) * change[k]
                for axis in range(3):
                    out[m, p, axis] = along * unit[p, axis]

    def push(begin, end, table, scale, first, second, distance, species, unit, moves, out):  # type: ignore[no-untyped-def]
        change = np.empty(columns, np.float32)
        for p in range(len(first)):
            at, t = place(distance[p] * scale)
            i, j = first[p], second[p]
            slopes_at(table, at, t, columns, scale, change)
            for m in range(begin, end):
                along = NAUGHT
                for axis in range(3):
                    along += moves[m, p, axis] * unit[p, axis]
                one, other = out[m, i, species[j]], out[m, j, species[i]]
                for k in range(columns):
                    one[k] += along * change[k]
                    other[k] += along * change[k]

    return kernel(values), kernel(pull), kernel(push)


@lru_cache
def angular(shifts: int, sections: int) -> tuple[Callable[..., Any], ...]:
    """Values, pull and push of angular terms of so many shifts and sections."""

    def values(first, last, edges, tables, out):  # type: ignore[no-untyped-def]
        start, other, outward, length, fade, block = edges
        by_length, by_cosine, scale = tables
        radial, angle = np.empty(shifts, np.float32), np.empty(sections, np.float32)
        for i in range(first, last):
            for b in range(start[i] + 1, start[i + 1]):
                for a in range(start[i], b):
                    at, t = place((length[a] + length[b]) * HALF * scale)
                    values_at(by_length, at, t, shifts, fade[a, 0] * fade[b, 0], radial)
                    at, t = place((cosine_of(outward, a, b) + ONE) * PER_COSINE)
                    values_at(by_cosine, at, t, sections, ONE, angle)
                    row = block[other[a], other[b]]
                    for k in range(shifts):
                        for s in range(sections):
                            out[i, row, k * sections + s] += radial[k] * angle[s]

    def pull(first, last, edges, tables, slopes, out):  # type: ignore[no-untyped-def]
        start, other, outward, length, fade, block = edges
        radial, steep = np.empty(shifts, np.float32), np.empty(shifts, np.float32)
        angle, bend = np.empty(sections, np.float32), np.empty(sections, np.float32)
        scratch = (radial, steep, angle, bend)
        for i in range(first, last):
            for b in range(start[i] + 1, start[i + 1]):
                for a in range(start[i], b):
                    cosine = factors(a, b, edges, tables, shifts, sections, scratch)
                    row = block[other[a], other[b]]
                    fade_a, fade_b = fade[a, 1] * fade[b, 0], fade[a, 0] * fade[b, 1]
                    for m in range(len(slopes)):
                        level = stretch = turn = NAUGHT
                        for s in range(sections):
                            by_radial = by_steep = NAUGHT
                            for k in range(shifts):
                                by_radial += slopes[m, i, row, k * sections + s] * radial[k]
                                by_steep += slopes[m, i, row, k * sections + s] * steep[k]
                            level += by_radial * angle[s]
                            turn += by_radial * bend[s]
                            stretch += by_steep * angle[s]
                        turn_a, turn_b = turn / length[a], turn / length[b]
                        along_a = stretch + level * fade_a - turn_a * cosine
                        along_b = stretch + level * fade_b - turn_b * cosine
                        for x in range(3):
                            out[m, a, x] += along_a * outward[a, x] + turn_a * outward[b, x]
                            out[m, b, x] += along_b * outward[b, x] + turn_b * outward[a, x]

    def push(first, last, edges, tables, pair, sign, moves, out):  # type: ignore[no-untyped-def]
        start, other, outward, length, fade, block = edges
        radial, steep = np.empty(shifts, np.float32), np.empty(shifts, np.float32)
        angle, bend = np.empty(sections, np.float32), np.empty(sections, np.float32)
        scratch = (radial, steep, angle, bend)
        columns = shifts * sections
        term, longer = np.empty(columns, np.float32), np.empty(columns, np.float32)
        wider = np.empty(columns, np.float32)
        for i in range(first, last):
            for b in range(start[i] + 1, start[i + 1]):
                for a in range(start[i], b):
                    cosine = factors(a, b, edges, tables, shifts, sections, scratch)
                    outer(radial, angle, shifts, sections, term)
                    outer(steep, angle, shifts, sections, longer)
                    outer(radial, bend, shifts, sections, wider)
                    row, p, q = block[other[a], other[b]], pair[a], pair[b]
                    fade_a, fade_b = fade[a, 1] * fade[b, 0], fade[a, 0] * fade[b, 1]
                    for m in range(len(moves)):
                        up = uq = vp = vq = NAUGHT
                        for x in range(3):
                            up += outward[a, x] * moves[m, p, x]
                            vp += outward[b, x] * moves[m, p, x]
                            uq += outward[a, x] * moves[m, q, x]
                            vq += outward[b, x] * moves[m, q, x]
                        up, vp, uq, vq = sign[a] * up, sign[a] * vp, sign[b] * uq, sign[b] * vq
                        turn = (vp - cosine * up) / length[a] + (uq - cosine * vq) / length[b]
                        level, stretch = fade_a * up + fade_b * vq, up + vq
                        for k in range(columns):
                            change = level * term[k] + stretch * longer[k] + turn * wider[k]
                            out[m, i, row, k] += change

    return kernel(values), kernel(pull), kernel(push)
