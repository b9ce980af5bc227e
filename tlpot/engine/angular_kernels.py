"""Kernels of the angular terms.

For many members at once each has a lane of the processor. A triple then has two sums: over the
longer and over the shorter of its two factors, the longer first.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit

from tlpot.engine.compiled import kernel
from tlpot.engine.tables import INTERVALS
from tlpot.engine.term_kernels import HALF, NAUGHT, ONE, place, slopes_at, values_at

PER_COSINE = np.float32(INTERVALS / 2)
LANES = 8
"""Members side by side; more come in several turns, fewer leave lanes empty."""


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
def angular_values(shifts: int, sections: int) -> Callable[..., Any]:
    """Values of angular terms of so many shifts and sections."""

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

    return kernel(values)


@lru_cache
def pull_of_one(shifts: int, sections: int) -> Callable[..., Any]:
    """Their pull of one slope."""

    def pull(first, last, edges, tables, slope, out):  # type: ignore[no-untyped-def]
        start, other, outward, length, fade, block = edges
        radial, steep = np.empty(shifts, np.float32), np.empty(shifts, np.float32)
        angle, bend = np.empty(sections, np.float32), np.empty(sections, np.float32)
        scratch = (radial, steep, angle, bend)
        for i in range(first, last):
            for b in range(start[i] + 1, start[i + 1]):
                for a in range(start[i], b):
                    cosine = factors(a, b, edges, tables, shifts, sections, scratch)
                    row = block[other[a], other[b]]
                    level = stretch = turn = NAUGHT
                    for s in range(sections):
                        by_radial = by_steep = NAUGHT
                        for k in range(shifts):
                            by_radial += slope[i, row, k * sections + s] * radial[k]
                            by_steep += slope[i, row, k * sections + s] * steep[k]
                        level += by_radial * angle[s]
                        turn += by_radial * bend[s]
                        stretch += by_steep * angle[s]
                    turn_a, turn_b = turn / length[a], turn / length[b]
                    along_a = stretch + level * fade[a, 1] * fade[b, 0] - turn_a * cosine
                    along_b = stretch + level * fade[a, 0] * fade[b, 1] - turn_b * cosine
                    for x in range(3):
                        out[a, x] += along_a * outward[a, x] + turn_a * outward[b, x]
                        out[b, x] += along_b * outward[b, x] + turn_b * outward[a, x]

    return kernel(pull)


@lru_cache
def pull_of_many(shifts: int, sections: int) -> Callable[..., Any]:
    """Their pull of many slopes."""
    long, short = max(shifts, sections), min(shifts, sections)
    step = (sections, 1) if shifts >= sections else (1, sections)

    def pull(first, last, edges, tables, slopes, out):  # type: ignore[no-untyped-def]
        start, other, outward, length, fade, block = edges
        radial, steep = np.empty(shifts, np.float32), np.empty(shifts, np.float32)
        angle, bend = np.empty(sections, np.float32), np.empty(sections, np.float32)
        scratch = (radial, steep, angle, bend)
        inner, inner_slope, outer, outer_slope = scratch
        if shifts < sections:
            inner, inner_slope, outer, outer_slope = angle, bend, radial, steep
        lanes = np.zeros((slopes.shape[2], long, short * LANES), np.float32)
        plain, sloped = np.empty(short * LANES, np.float32), np.empty(short * LANES, np.float32)
        most = np.diff(start).max()
        sums = np.empty((most, 3, LANES), np.float32)
        for begin in range(0, len(slopes), LANES):
            count = min(LANES, len(slopes) - begin)
            for i in range(first, last):
                base = start[i]
                for m in range(count):
                    for row in range(len(lanes)):
                        for k in range(long):
                            for s in range(short):
                                value = slopes[begin + m, i, row, k * step[0] + s * step[1]]
                                lanes[row, k, s * LANES + m] = value
                sums[:] = NAUGHT
                for b in range(base + 1, start[i + 1]):
                    for a in range(base, b):
                        cosine = factors(a, b, edges, tables, shifts, sections, scratch)
                        row = block[other[a], other[b]]
                        for j in range(short * LANES):
                            x = y = NAUGHT
                            for k in range(long):
                                x += lanes[row, k, j] * inner[k]
                                y += lanes[row, k, j] * inner_slope[k]
                            plain[j], sloped[j] = x, y
                        per_a, per_b = ONE / length[a], ONE / length[b]
                        fade_a, fade_b = fade[a, 1] * fade[b, 0], fade[a, 0] * fade[b, 1]
                        for m in range(LANES):
                            level = turn = stretch = NAUGHT
                            for s in range(short):
                                level += plain[s * LANES + m] * outer[s]
                                turn += plain[s * LANES + m] * outer_slope[s]
                                stretch += sloped[s * LANES + m] * outer[s]
                            if shifts < sections:
                                turn, stretch = stretch, turn
                            turn_a, turn_b = turn * per_a, turn * per_b
                            along_a = stretch + level * fade_a - turn_a * cosine
                            along_b = stretch + level * fade_b - turn_b * cosine
                            for x in range(3):
                                to_a, to_b = outward[a, x], outward[b, x]
                                sums[a - base, x, m] += along_a * to_a + turn_a * to_b
                                sums[b - base, x, m] += along_b * to_b + turn_b * to_a
                for m in range(count):
                    for a in range(base, start[i + 1]):
                        for x in range(3):
                            out[begin + m, a, x] = sums[a - base, x, m]

    return kernel(pull)


@lru_cache
def push_of_many(shifts: int, sections: int) -> Callable[..., Any]:
    """Their push of many displacements."""
    long, short = max(shifts, sections), min(shifts, sections)
    step = (sections, 1) if shifts >= sections else (1, sections)

    def push(first, last, edges, tables, pair, sign, moves, out):  # type: ignore[no-untyped-def]
        start, other, outward, length, fade, block = edges
        radial, steep = np.empty(shifts, np.float32), np.empty(shifts, np.float32)
        angle, bend = np.empty(sections, np.float32), np.empty(sections, np.float32)
        scratch = (radial, steep, angle, bend)
        inner, inner_slope, outer, outer_slope = scratch
        if shifts < sections:
            inner, inner_slope, outer, outer_slope = angle, bend, radial, steep
        lanes = np.empty((out.shape[2], long, short * LANES), np.float32)
        plain, sloped = np.empty(short * LANES, np.float32), np.empty(short * LANES, np.float32)
        most = np.diff(start).max()
        moved = np.zeros((most, 3, LANES), np.float32)
        level, stretch = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
        turn = np.empty(LANES, np.float32)
        for begin in range(0, len(moves), LANES):
            count = min(LANES, len(moves) - begin)
            for i in range(first, last):
                base = start[i]
                for m in range(count):
                    for a in range(base, start[i + 1]):
                        for x in range(3):
                            moved[a - base, x, m] = sign[a] * moves[begin + m, pair[a], x]
                lanes[:] = NAUGHT
                for b in range(base + 1, start[i + 1]):
                    for a in range(base, b):
                        cosine = factors(a, b, edges, tables, shifts, sections, scratch)
                        row, p, q = block[other[a], other[b]], a - base, b - base
                        per_a, per_b = ONE / length[a], ONE / length[b]
                        fade_a, fade_b = fade[a, 1] * fade[b, 0], fade[a, 0] * fade[b, 1]
                        for m in range(LANES):
                            up = uq = vp = vq = NAUGHT
                            for x in range(3):
                                up += outward[a, x] * moved[p, x, m]
                                vp += outward[b, x] * moved[p, x, m]
                                uq += outward[a, x] * moved[q, x, m]
                                vq += outward[b, x] * moved[q, x, m]
                            turning = (vp - cosine * up) * per_a + (uq - cosine * vq) * per_b
                            level[m], stretch[m], turn[m] = (
                                fade_a * up + fade_b * vq,
                                up + vq,
                                turning,
                            )
                            if shifts < sections:
                                turn[m], stretch[m] = stretch[m], turn[m]
                        for s in range(short):
                            for m in range(LANES):
                                plain[s * LANES + m] = (
                                    level[m] * outer[s] + turn[m] * outer_slope[s]
                                )
                                sloped[s * LANES + m] = stretch[m] * outer[s]
                        for k in range(long):
                            for j in range(short * LANES):
                                lanes[row, k, j] += plain[j] * inner[k] + sloped[j] * inner_slope[k]
                for m in range(count):
                    for row in range(len(lanes)):
                        for k in range(long):
                            for s in range(short):
                                value = lanes[row, k, s * LANES + m]
                                out[begin + m, i, row, k * step[0] + s * step[1]] = value

    return kernel(push)
