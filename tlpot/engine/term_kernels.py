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


@lru_cache
def radial(columns: int) -> tuple[Callable[..., Any], ...]:
    """Values, pull and push of radial terms of so many columns."""

    def values(table, scale, first, second, distance, species, out):  # type: ignore[no-untyped-def]
        for p in range(len(first)):
            at, t = place(distance[p] * scale)
            i, j = first[p], second[p]
            here, there = out[i, species[j]], out[j, species[i]]
            for k in range(columns):
                cubic = table[at, 2, k] + t * table[at, 3, k]
                term = table[at, 0, k] + t * (table[at, 1, k] + t * cubic)
                here[k] += term
                there[k] += term

    def pull(begin, end, table, scale, first, second, distance, species, unit, slopes, out):  # type: ignore[no-untyped-def]
        change = np.empty(columns, np.float32)
        for p in range(begin, end):
            at, t = place(distance[p] * scale)
            i, j = first[p], second[p]
            slopes_at(table, at, t, columns, scale, change)
            for m in range(len(slopes)):
                here, there = slopes[m, i, species[j]], slopes[m, j, species[i]]
                along = NAUGHT
                for k in range(columns):
                    along += (here[k] + there[k]) * change[k]
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
                here, there = out[m, i, species[j]], out[m, j, species[i]]
                for k in range(columns):
                    here[k] += along * change[k]
                    there[k] += along * change[k]

    return kernel(values), kernel(pull), kernel(push)
