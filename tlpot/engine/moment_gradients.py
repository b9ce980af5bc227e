"""Kernels of the products of moments: their pull and push.

Members are side by side in the processor's lanes; inner loops run over channels and members
together, ``row`` numbers. Rows that shifted channels are read from hold everything twice.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit

from tlpot.engine.angular_kernels import LANES
from tlpot.engine.compiled import kernel
from tlpot.engine.moment_kernels import _MOST, _PACKED, _WHOLE, intermediate, mixed, neighbour
from tlpot.engine.term_kernels import NAUGHT, ONE, place, slopes_at


@njit(inline="always")
def slopes_of(e, edges, tables, axes, count, shifts, scratch, steep, bend):  # type: ignore[no-untyped-def]
    """Slopes of the weights in the distance; ``bend[3, 19]`` of the powers in u."""
    table, scale, mixtures = tables[:3]
    gauss, _, unit, _ = scratch
    at, t = place(edges.length[e] * scale)
    slopes_at(table, at, t, shifts, scale, gauss)
    mixed(mixtures, edges.other[e], gauss, count, shifts, steep)
    bend[:] = NAUGHT
    for q in range(_PACKED):
        x, y, z = axes[q, 0], axes[q, 1], axes[q, 2]
        bend[x, q] += unit[y] * unit[z]
        bend[y, q] += unit[x] * unit[z]
        bend[z, q] += unit[x] * unit[y]


@njit(inline="always")
def widened(own, count, lanes, out):  # type: ignore[no-untyped-def]
    """Moments, the same for every member."""
    for f in range(_WHOLE):
        for c in range(2 * count):
            for m in range(lanes):
                out[f, c * lanes + m] = own[f, c]


@njit(inline="always")
def products_pulled(kind, own, wide, both, weights, count, lanes, to_both, to_own):  # type: ignore[no-untyped-def]
    """Slopes in the moments from those in the columns of one kind."""
    by_last, by_both = weights
    left, right, rows, width, height, to, shift = kind
    row, ahead = count * lanes, shift * lanes
    for q in range(width * height):
        to_both[q] = NAUGHT
        for c in range(count):
            for j in range(row):
                to_both[q, j] += by_both[c, j] * own[to + q, c]
        for p in range(count):
            for j in range(row):
                to_own[to + q, j] += by_last[p, j] * both[q, p]
    for r in range(rows):
        for k in range(width):
            for h in range(height):
                q, x, y = k * height + h, left + r * width + k, right + r * height + h
                for j in range(row):
                    to_own[x, j] += to_both[q, j] * wide[y, j + ahead]
                for j in range(row):
                    to_own[y, j + ahead] += to_both[q, j] * wide[x, j]


@njit(inline="always")
def packed_up(to_own, packed, count, lanes, out):  # type: ignore[no-untyped-def]
    """Slopes in the packed moments, ``(channels, 19 × lanes)``."""
    row = count * lanes
    out[:] = NAUGHT
    for f in range(_WHOLE):
        for j in range(row):
            to_own[f, j] += to_own[f, j + row]
        for c in range(count):
            for m in range(lanes):
                out[c, packed[f] * lanes + m] += to_own[f, c * lanes + m]


@njit(inline="always")
def neighbour_pulled(to_packed, scratch, steep, bend, count, lanes, sums, turn, along):  # type: ignore[no-untyped-def]
    """Slopes in a neighbour's direction, ``turn[3, lanes]``, and in its distance."""
    _, weights, _, terms = scratch
    plain, sloped = sums
    for j in range(_PACKED * lanes):
        x = y = NAUGHT
        for c in range(count):
            x += to_packed[c, j] * weights[c]
            y += to_packed[c, j] * steep[c]
        plain[j], sloped[j] = x, y
    for x in range(3):
        for m in range(lanes):
            total = NAUGHT
            for q in range(_PACKED):
                total += plain[q * lanes + m] * bend[x, q]
            turn[x, m] = total
    for m in range(lanes):
        total = NAUGHT
        for q in range(_PACKED):
            total += sloped[q * lanes + m] * terms[q]
        along[m] = total


@lru_cache
def product_pull(count: int, shifts: int, several: bool) -> Callable[..., Any]:
    """Pull of one slope or several; fewer than lanes leave lanes empty."""
    lanes = LANES if several else 1
    row = count * lanes

    def pull(first, last, edges, tables, indices, kept, slopes, out):  # type: ignore[no-untyped-def]
        axes, packed = indices
        kinds = tables[3]
        gauss, weights = np.empty(shifts, np.float32), np.empty(count, np.float32)
        unit, steep = np.empty(4, np.float32), np.empty(count, np.float32)
        terms = np.empty(_PACKED, np.float32)
        scratch, bend = (gauss, weights, unit, terms), np.empty((4, _PACKED), np.float32)
        both = np.empty((_MOST, count), np.float32)
        wide, to_own = (
            np.empty((_WHOLE, 2 * row), np.float32),
            np.empty((_WHOLE, 2 * row), np.float32),
        )
        by_last, by_both = np.zeros((count, row), np.float32), np.zeros((count, row), np.float32)
        to_both = np.empty((_MOST, row), np.float32)
        to_packed = np.empty((count, _PACKED * lanes), np.float32)
        plain, sloped = np.empty(_PACKED * lanes, np.float32), np.empty(_PACKED * lanes, np.float32)
        turn, along = np.empty((3, lanes), np.float32), np.empty(lanes, np.float32)
        for begin in range(0, len(slopes), lanes):
            active = min(lanes, len(slopes) - begin)
            for i in range(first, last):
                if edges.start[i] == edges.start[i + 1]:
                    continue
                own = kept[i]
                widened(own, count, lanes, wide)
                to_own[:] = NAUGHT
                for t in range(len(kinds)):
                    for p in range(count):
                        for c in range(count):
                            for m in range(active):
                                value = slopes[begin + m, i, t, p, c]
                                by_last[p, c * lanes + m] = by_both[c, p * lanes + m] = value
                    intermediate(own, kinds[t], count, both)
                    parts = (by_last, by_both)
                    products_pulled(kinds[t], own, wide, both, parts, count, lanes, to_both, to_own)
                packed_up(to_own, packed, count, lanes, to_packed)
                for e in range(edges.start[i], edges.start[i + 1]):
                    neighbour(e, edges, tables, axes, count, shifts, scratch)
                    slopes_of(e, edges, tables, axes, count, shifts, scratch, steep, bend)
                    sums = (plain, sloped)
                    neighbour_pulled(
                        to_packed, scratch, steep, bend, count, lanes, sums, turn, along
                    )
                    per = ONE / edges.length[e]
                    for m in range(active):
                        onto = turn[0, m] * unit[0] + turn[1, m] * unit[1] + turn[2, m] * unit[2]
                        for x in range(3):
                            across = (turn[x, m] - onto * unit[x]) * per
                            out[begin + m, e, x] = along[m] * unit[x] + across

    return kernel(pull)


@njit(inline="always")
def neighbour_pushed(e, edges, moves, begin, active, unit, moved, longer):  # type: ignore[no-untyped-def]
    """Change of a neighbour's direction, ``moved[3, lanes]``, and of its distance."""
    per = ONE / edges.length[e]
    for m in range(active):
        onto = NAUGHT
        for x in range(3):
            moved[x, m] = edges.sign[e] * moves[begin + m, edges.pair[e], x]
            onto += moved[x, m] * unit[x]
        for x in range(3):
            moved[x, m] = (moved[x, m] - onto * unit[x]) * per
        longer[m] = onto


@njit(inline="always")
def moments_pushed(scratch, steep, bend, moved, longer, count, lanes, sums, out):  # type: ignore[no-untyped-def]
    """Adds a neighbour's part to the change of the packed moments."""
    _, weights, _, terms = scratch
    across, onward = sums
    for q in range(_PACKED):
        for m in range(lanes):
            turned = moved[0, m] * bend[0, q] + moved[1, m] * bend[1, q]
            across[q * lanes + m] = turned + moved[2, m] * bend[2, q]
        for m in range(lanes):
            onward[q * lanes + m] = longer[m] * terms[q]
    for c in range(count):
        for j in range(_PACKED * lanes):
            out[c, j] += weights[c] * across[j] + steep[c] * onward[j]


@njit(inline="always")
def spread_out(change_packed, packed, count, lanes, out):  # type: ignore[no-untyped-def]
    """Packed moments as whole ones, twice."""
    row = count * lanes
    for f in range(_WHOLE):
        for c in range(count):
            for m in range(lanes):
                value = change_packed[c, packed[f] * lanes + m]
                out[f, c * lanes + m] = out[f, row + c * lanes + m] = value


@njit(inline="always")
def products_pushed(kind, own, wide, both, change, count, lanes, change_both, parts):  # type: ignore[no-untyped-def]
    """Change of the columns of one kind, by their last factor and by the other two."""
    by_last, by_both = parts
    left, right, rows, width, height, to, shift = kind
    row, ahead = count * lanes, shift * lanes
    by_last[:] = NAUGHT
    by_both[:] = NAUGHT
    for k in range(width):
        for h in range(height):
            q = k * height + h
            change_both[q] = NAUGHT
            for r in range(rows):
                x, y = left + r * width + k, right + r * height + h
                for j in range(row):
                    change_both[q, j] += (
                        change[x, j] * wide[y, j + ahead] + wide[x, j] * change[y, j + ahead]
                    )
            for c in range(count):
                for j in range(row):
                    by_both[c, j] += change_both[q, j] * own[to + q, c]
            for p in range(count):
                for j in range(row):
                    by_last[p, j] += change[to + q, j] * both[q, p]


@lru_cache
def product_push(count: int, shifts: int, several: bool) -> Callable[..., Any]:
    """Push of one displacement or several, likewise."""
    lanes = LANES if several else 1
    row = count * lanes

    def push(first, last, edges, tables, indices, kept, moves, out):  # type: ignore[no-untyped-def]
        axes, packed = indices
        kinds = tables[3]
        gauss, weights = np.empty(shifts, np.float32), np.empty(count, np.float32)
        unit, steep = np.empty(4, np.float32), np.empty(count, np.float32)
        terms = np.empty(_PACKED, np.float32)
        scratch, bend = (gauss, weights, unit, terms), np.empty((4, _PACKED), np.float32)
        both = np.empty((_MOST, count), np.float32)
        wide, change = (
            np.empty((_WHOLE, 2 * row), np.float32),
            np.empty((_WHOLE, 2 * row), np.float32),
        )
        by_last, by_both = np.empty((count, row), np.float32), np.empty((count, row), np.float32)
        change_both = np.empty((_MOST, row), np.float32)
        change_packed = np.empty((count, _PACKED * lanes), np.float32)
        across, onward = (
            np.empty(_PACKED * lanes, np.float32),
            np.empty(_PACKED * lanes, np.float32),
        )
        moved, longer = np.zeros((3, lanes), np.float32), np.zeros(lanes, np.float32)
        for begin in range(0, len(moves), lanes):
            active = min(lanes, len(moves) - begin)
            for i in range(first, last):
                own = kept[i]
                widened(own, count, lanes, wide)
                change_packed[:] = NAUGHT
                for e in range(edges.start[i], edges.start[i + 1]):
                    neighbour(e, edges, tables, axes, count, shifts, scratch)
                    slopes_of(e, edges, tables, axes, count, shifts, scratch, steep, bend)
                    neighbour_pushed(e, edges, moves, begin, active, unit, moved, longer)
                    sums = (across, onward)
                    moments_pushed(
                        scratch, steep, bend, moved, longer, count, lanes, sums, change_packed
                    )
                spread_out(change_packed, packed, count, lanes, change)
                for t in range(len(kinds)):
                    intermediate(own, kinds[t], count, both)
                    parts = (by_last, by_both)
                    products_pushed(
                        kinds[t], own, wide, both, change, count, lanes, change_both, parts
                    )
                    for p in range(count):
                        for c in range(count):
                            for m in range(active):
                                value = by_last[p, c * lanes + m] + by_both[c, p * lanes + m]
                                out[begin + m, i, t, p, c] = value

    return kernel(push)
