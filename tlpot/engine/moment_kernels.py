"""Kernels of the products of moments: their values, and what pull and push need of them.

The moments of an atom are kept whole, 3 + 9 + 27 components, where products are made, and packed,
3 + 6 + 10, where neighbours are summed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit

from tlpot.engine.compiled import kernel
from tlpot.engine.term_kernels import NAUGHT, ONE, place, values_at

_WHOLE, _PACKED, _MOST = 39, 19, 9
"""Components of a channel, whole and packed; of an intermediate product at most."""


@njit(inline="always")
def mixed(mixtures, element, gauss, count, shifts, out):  # type: ignore[no-untyped-def]
    """An element's channels of the Gaussians, or of their slopes."""
    for c in range(count):
        total = NAUGHT
        for n in range(shifts):
            total += mixtures[element, c, n] * gauss[n]
        out[c] = total


@njit(inline="always")
def neighbour(e, edges, tables, axes, count, shifts, out):  # type: ignore[no-untyped-def]
    """Weights in the channels; u, u⊗u, u⊗u⊗u packed."""
    table, scale, mixtures = tables[:3]
    gauss, weights, unit, terms = out
    at, t = place(edges.length[e] * scale)
    values_at(table, at, t, shifts, ONE, gauss)
    mixed(mixtures, edges.other[e], gauss, count, shifts, weights)
    for x in range(3):
        unit[x] = edges.outward[e, x]
    unit[3] = ONE
    for q in range(_PACKED):
        terms[q] = unit[axes[q, 0]] * unit[axes[q, 1]] * unit[axes[q, 2]]


@njit(inline="always")
def intermediate(own, kind, count, out):  # type: ignore[no-untyped-def]
    """P = LᵀR of each channel and a shifted one: ``(components, channels)``."""
    left, right, rows, wide, high, shift = kind[0], kind[1], kind[2], kind[3], kind[4], kind[6]
    for k in range(wide):
        for h in range(high):
            for p in range(count):
                total = NAUGHT
                for r in range(rows):
                    total += own[left + r * wide + k, p] * own[right + r * high + h, p + shift]
                out[k * high + h, p] = total


@lru_cache
def moments_of(count: int, shifts: int) -> Callable[..., Any]:
    """Moments of atoms in so many channels of so many Gaussians: ``(atoms, 39, 2 × channels)``."""

    def moments(first, last, edges, tables, indices, out):  # type: ignore[no-untyped-def]
        axes, packed = indices
        gauss, weights = np.empty(shifts, np.float32), np.empty(count, np.float32)
        unit, terms = np.empty(4, np.float32), np.empty(_PACKED, np.float32)
        scratch = (gauss, weights, unit, terms)
        sums = np.empty((_PACKED, count), np.float32)
        for i in range(first, last):
            sums[:] = NAUGHT
            for e in range(edges.start[i], edges.start[i + 1]):
                neighbour(e, edges, tables, axes, count, shifts, scratch)
                for q in range(_PACKED):
                    for c in range(count):
                        sums[q, c] += weights[c] * terms[q]
            for f in range(_WHOLE):
                for c in range(count):
                    out[i, f, c] = out[i, f, c + count] = sums[packed[f], c]

    return kernel(moments)


@lru_cache
def product_values(count: int) -> Callable[..., Any]:
    """Columns of atoms from their moments."""

    def values(first, last, kinds, kept, out):  # type: ignore[no-untyped-def]
        both = np.empty((_MOST, count), np.float32)
        for i in range(first, last):
            own = kept[i]
            for t in range(len(kinds)):
                size, to = kinds[t, 3] * kinds[t, 4], kinds[t, 5]
                intermediate(own, kinds[t], count, both)
                for p in range(count):
                    for c in range(count):
                        total = NAUGHT
                        for q in range(size):
                            total += both[q, p] * own[to + q, c]
                        out[i, t, p, c] = total

    return kernel(values)
