"""Kernels of the products of moments; members side by side in the processor's lanes.

The moments of an atom are kept whole, 3 + 9 + 27 components, where products are made, and packed,
3 + 6 + 10, where neighbours are summed. Inner loops run over channels and members together. Rows
that the shifted channels of a product are read from hold everything twice.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit

from tlpot.engine.compiled import kernel
from tlpot.engine.term_kernels import NAUGHT, ONE, place, slopes_at, values_at

WHOLE, PACKED, MOST = 39, 19, 9
"""Components of a channel, whole and packed; of an intermediate product at most."""
LANES = 8
"""Members side by side, where there are several."""


@njit(inline="always")
def neighbour(e, edges, tables, axes, count, shifts, out):  # type: ignore[no-untyped-def]
    """Weights in the channels; u, u⊗u, u⊗u⊗u packed."""
    table, scale, mixtures = tables[:3]
    gauss, weights, unit, terms = out
    at, t = place(edges.length[e] * scale)
    element = edges.other[e]
    values_at(table, at, t, shifts, ONE, gauss)
    for c in range(count):
        total = NAUGHT
        for n in range(shifts):
            total += mixtures[element, c, n] * gauss[n]
        weights[c] = total
    for x in range(3):
        unit[x] = edges.outward[e, x]
    unit[3] = ONE
    for q in range(PACKED):
        terms[q] = unit[axes[q, 0]] * unit[axes[q, 1]] * unit[axes[q, 2]]


@njit(inline="always")
def slopes_of(e, edges, tables, axes, count, shifts, scratch, steep, bend):  # type: ignore[no-untyped-def]
    """Slopes of the weights in the distance; ``bend[3, 19]`` of the powers in u."""
    table, scale, mixtures = tables[:3]
    gauss, _, unit, _ = scratch
    at, t = place(edges.length[e] * scale)
    element = edges.other[e]
    slopes_at(table, at, t, shifts, scale, gauss)
    for c in range(count):
        total = NAUGHT
        for n in range(shifts):
            total += mixtures[element, c, n] * gauss[n]
        steep[c] = total
    bend[:] = NAUGHT
    for q in range(PACKED):
        x, y, z = axes[q, 0], axes[q, 1], axes[q, 2]
        bend[x, q] += unit[y] * unit[z]
        bend[y, q] += unit[x] * unit[z]
        bend[z, q] += unit[x] * unit[y]


@njit(inline="always")
def moments(i, edges, tables, indices, count, shifts, scratch, sums, out):  # type: ignore[no-untyped-def]
    """Moments of an atom, ``(39, 2 × channels)``."""
    axes, packed = indices
    _, weights, _, terms = scratch
    sums[:] = NAUGHT
    for e in range(edges.start[i], edges.start[i + 1]):
        neighbour(e, edges, tables, axes, count, shifts, scratch)
        for q in range(PACKED):
            for c in range(count):
                sums[q, c] += weights[c] * terms[q]
    for f in range(WHOLE):
        for c in range(count):
            out[f, c] = out[f, c + count] = sums[packed[f], c]


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
def product_values(count: int, shifts: int) -> Callable[..., Any]:
    """Columns of atoms with so many channels of so many Gaussians."""

    def values(first, last, edges, tables, indices, out):  # type: ignore[no-untyped-def]
        kinds = tables[3]
        gauss, weights = np.empty(shifts, np.float32), np.empty(count, np.float32)
        unit = np.empty(4, np.float32)
        terms, sums = np.empty(PACKED, np.float32), np.empty((PACKED, count), np.float32)
        scratch = (gauss, weights, unit, terms)
        own, both = np.empty((WHOLE, 2 * count), np.float32), np.empty((MOST, count), np.float32)
        for i in range(first, last):
            moments(i, edges, tables, indices, count, shifts, scratch, sums, own)
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


@lru_cache
def product_pull(count: int, shifts: int, members: int) -> Callable[..., Any]:
    """Their pull of so many slopes."""
    lanes = min(members, LANES)
    row = count * lanes

    def pull(first, last, edges, tables, indices, slopes, out):  # type: ignore[no-untyped-def]
        axes, packed = indices
        kinds = tables[3]
        gauss, weights = np.empty(shifts, np.float32), np.empty(count, np.float32)
        unit, steep = np.empty(4, np.float32), np.empty(count, np.float32)
        bend = np.empty((4, PACKED), np.float32)
        terms, sums = np.empty(PACKED, np.float32), np.empty((PACKED, count), np.float32)
        scratch = (gauss, weights, unit, terms)
        own, both = np.empty((WHOLE, 2 * count), np.float32), np.empty((MOST, count), np.float32)
        wide_own = np.empty((WHOLE, 2 * row), np.float32)
        by_last = np.zeros((count, row), np.float32)
        by_both = np.zeros((count, row), np.float32)
        to_both = np.empty((MOST, row), np.float32)
        to_own = np.empty((WHOLE, 2 * row), np.float32)
        to_packed = np.empty((count, PACKED * lanes), np.float32)
        plain, sloped = np.empty(PACKED * lanes, np.float32), np.empty(PACKED * lanes, np.float32)
        turn, along = np.empty((3, lanes), np.float32), np.empty(lanes, np.float32)
        for begin in range(0, len(slopes), lanes):
            active = min(lanes, len(slopes) - begin)
            for i in range(first, last):
                if edges.start[i] == edges.start[i + 1]:
                    continue
                moments(i, edges, tables, indices, count, shifts, scratch, sums, own)
                for f in range(WHOLE):
                    for c in range(2 * count):
                        for m in range(lanes):
                            wide_own[f, c * lanes + m] = own[f, c]
                to_own[:] = NAUGHT
                for t in range(len(kinds)):
                    left, right, rows, wide, high, to, shift = kinds[t]
                    intermediate(own, kinds[t], count, both)
                    for p in range(count):
                        for c in range(count):
                            for m in range(active):
                                value = slopes[begin + m, i, t, p, c]
                                by_last[p, c * lanes + m] = by_both[c, p * lanes + m] = value
                    for q in range(wide * high):
                        to_both[q] = NAUGHT
                        for c in range(count):
                            for j in range(row):
                                to_both[q, j] += by_both[c, j] * own[to + q, c]
                        for p in range(count):
                            for j in range(row):
                                to_own[to + q, j] += by_last[p, j] * both[q, p]
                    ahead = shift * lanes
                    for r in range(rows):
                        for k in range(wide):
                            for h in range(high):
                                q, x, y = k * high + h, left + r * wide + k, right + r * high + h
                                for j in range(row):
                                    to_own[x, j] += to_both[q, j] * wide_own[y, j + ahead]
                                for j in range(row):
                                    to_own[y, j + ahead] += to_both[q, j] * wide_own[x, j]
                to_packed[:] = NAUGHT
                for f in range(WHOLE):
                    for j in range(row):
                        to_own[f, j] += to_own[f, j + row]
                    for c in range(count):
                        for m in range(lanes):
                            to_packed[c, packed[f] * lanes + m] += to_own[f, c * lanes + m]
                for e in range(edges.start[i], edges.start[i + 1]):
                    neighbour(e, edges, tables, axes, count, shifts, scratch)
                    slopes_of(e, edges, tables, axes, count, shifts, scratch, steep, bend)
                    for j in range(PACKED * lanes):
                        x = y = NAUGHT
                        for c in range(count):
                            x += to_packed[c, j] * weights[c]
                            y += to_packed[c, j] * steep[c]
                        plain[j], sloped[j] = x, y
                    for x in range(3):
                        for m in range(lanes):
                            total = NAUGHT
                            for q in range(PACKED):
                                total += plain[q * lanes + m] * bend[x, q]
                            turn[x, m] = total
                    for m in range(lanes):
                        total = NAUGHT
                        for q in range(PACKED):
                            total += sloped[q * lanes + m] * terms[q]
                        along[m] = total
                    per = ONE / edges.length[e]
                    for m in range(active):
                        onto = turn[0, m] * unit[0] + turn[1, m] * unit[1] + turn[2, m] * unit[2]
                        for x in range(3):
                            across = (turn[x, m] - onto * unit[x]) * per
                            out[begin + m, e, x] = along[m] * unit[x] + across

    return kernel(pull)


@lru_cache
def product_push(count: int, shifts: int, members: int) -> Callable[..., Any]:
    """Their push of so many displacements."""
    lanes = min(members, LANES)
    row = count * lanes

    def push(first, last, edges, tables, indices, moves, out):  # type: ignore[no-untyped-def]
        axes, packed = indices
        kinds = tables[3]
        gauss, weights = np.empty(shifts, np.float32), np.empty(count, np.float32)
        unit, steep = np.empty(4, np.float32), np.empty(count, np.float32)
        bend = np.empty((4, PACKED), np.float32)
        terms, sums = np.empty(PACKED, np.float32), np.empty((PACKED, count), np.float32)
        scratch = (gauss, weights, unit, terms)
        own, both = np.empty((WHOLE, 2 * count), np.float32), np.empty((MOST, count), np.float32)
        wide_own = np.empty((WHOLE, 2 * row), np.float32)
        moved, longer = np.zeros((3, lanes), np.float32), np.zeros(lanes, np.float32)
        across, onward = np.empty(PACKED * lanes, np.float32), np.empty(PACKED * lanes, np.float32)
        change_packed = np.empty((count, PACKED * lanes), np.float32)
        change = np.empty((WHOLE, 2 * row), np.float32)
        change_both = np.empty((MOST, row), np.float32)
        by_last = np.empty((count, row), np.float32)
        by_both = np.empty((count, row), np.float32)
        for begin in range(0, len(moves), lanes):
            active = min(lanes, len(moves) - begin)
            for i in range(first, last):
                moments(i, edges, tables, indices, count, shifts, scratch, sums, own)
                for f in range(WHOLE):
                    for c in range(2 * count):
                        for m in range(lanes):
                            wide_own[f, c * lanes + m] = own[f, c]
                change_packed[:] = NAUGHT
                for e in range(edges.start[i], edges.start[i + 1]):
                    neighbour(e, edges, tables, axes, count, shifts, scratch)
                    slopes_of(e, edges, tables, axes, count, shifts, scratch, steep, bend)
                    per = ONE / edges.length[e]
                    for m in range(active):
                        onto = NAUGHT
                        for x in range(3):
                            moved[x, m] = edges.sign[e] * moves[begin + m, edges.pair[e], x]
                            onto += moved[x, m] * unit[x]
                        for x in range(3):
                            moved[x, m] = (moved[x, m] - onto * unit[x]) * per
                        longer[m] = onto
                    for q in range(PACKED):
                        for m in range(lanes):
                            turned = moved[0, m] * bend[0, q] + moved[1, m] * bend[1, q]
                            across[q * lanes + m] = turned + moved[2, m] * bend[2, q]
                        for m in range(lanes):
                            onward[q * lanes + m] = longer[m] * terms[q]
                    for c in range(count):
                        for j in range(PACKED * lanes):
                            change_packed[c, j] += weights[c] * across[j] + steep[c] * onward[j]
                for f in range(WHOLE):
                    for c in range(count):
                        for m in range(lanes):
                            value = change_packed[c, packed[f] * lanes + m]
                            change[f, c * lanes + m] = change[f, row + c * lanes + m] = value
                for t in range(len(kinds)):
                    left, right, rows, wide, high, to, shift = kinds[t]
                    intermediate(own, kinds[t], count, both)
                    ahead = shift * lanes
                    by_last[:] = NAUGHT
                    by_both[:] = NAUGHT
                    for k in range(wide):
                        for h in range(high):
                            q = k * high + h
                            change_both[q] = NAUGHT
                            for r in range(rows):
                                x, y = left + r * wide + k, right + r * high + h
                                for j in range(row):
                                    change_both[q, j] += (
                                        change[x, j] * wide_own[y, j + ahead]
                                        + wide_own[x, j] * change[y, j + ahead]
                                    )
                            for c in range(count):
                                for j in range(row):
                                    by_both[c, j] += change_both[q, j] * own[to + q, c]
                            for p in range(count):
                                for j in range(row):
                                    by_last[p, j] += change[to + q, j] * both[q, p]
                    for p in range(count):
                        for c in range(count):
                            for m in range(active):
                                value = by_last[p, c * lanes + m] + by_both[c, p * lanes + m]
                                out[begin + m, i, t, p, c] = value

    return kernel(push)
