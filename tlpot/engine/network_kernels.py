"""Kernels of the networks of one element: what `tlpot.engine.networks` else does by torch.

Few atoms are many networks' inputs: the matrices are large and the batches small, which general
products are bad at. Here a matrix is read once for three atoms at a time, four of its rows at once,
and the sums stay in registers.
"""

from __future__ import annotations

from functools import partial
from math import e, factorial, log, log2

import numpy as np
from numba import njit

from tlpot.engine.compiled import ANY_ORDER, kernel
from tlpot.engine.term_kernels import ONE

fast = njit(fastmath=ANY_ORDER, error_model="numpy", inline="always")
adding = partial(kernel, fastmath=ANY_ORDER)
zero, lowest = np.float32(0), np.float32(-125)
per_octave, bias, unit = np.float32(log2(e)), np.float32(127), np.float32(2**23)
c1, c2, c3, c4, c5, c6 = (np.float32(log(2) ** n / factorial(n)) for n in range(1, 7))


@fast
def dots(x, w, out):  # type: ignore[no-untyped-def]
    """``out[r, j] = x[r] · w[j]``."""
    rows, count, n = len(x), len(w), x.shape[1]
    for r in range(0, rows - rows % 3, 3):
        for j in range(0, count - count % 4, 4):
            a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = c0 = c1 = c2 = c3 = zero
            for i in range(n):
                a, b, c = x[r, i], x[r + 1, i], x[r + 2, i]
                w0, w1, w2, w3 = w[j, i], w[j + 1, i], w[j + 2, i], w[j + 3, i]
                a0 += a * w0
                a1 += a * w1
                a2 += a * w2
                a3 += a * w3
                b0 += b * w0
                b1 += b * w1
                b2 += b * w2
                b3 += b * w3
                c0 += c * w0
                c1 += c * w1
                c2 += c * w2
                c3 += c * w3
            out[r, j], out[r, j + 1], out[r, j + 2], out[r, j + 3] = a0, a1, a2, a3
            out[r + 1, j], out[r + 1, j + 1], out[r + 1, j + 2], out[r + 1, j + 3] = (
                b0,
                b1,
                b2,
                b3,
            )
            out[r + 2, j], out[r + 2, j + 1], out[r + 2, j + 2], out[r + 2, j + 3] = (
                c0,
                c1,
                c2,
                c3,
            )
        for j in range(count - count % 4, count):
            a0 = b0 = c0 = zero
            for i in range(n):
                a0 += x[r, i] * w[j, i]
                b0 += x[r + 1, i] * w[j, i]
                c0 += x[r + 2, i] * w[j, i]
            out[r, j], out[r + 1, j], out[r + 2, j] = a0, b0, c0
    for r in range(rows - rows % 3, rows):
        for j in range(0, count - count % 4, 4):
            a0 = a1 = a2 = a3 = zero
            for i in range(n):
                a0 += x[r, i] * w[j, i]
                a1 += x[r, i] * w[j + 1, i]
                a2 += x[r, i] * w[j + 2, i]
                a3 += x[r, i] * w[j + 3, i]
            out[r, j], out[r, j + 1], out[r, j + 2], out[r, j + 3] = a0, a1, a2, a3
        for j in range(count - count % 4, count):
            a0 = zero
            for i in range(n):
                a0 += x[r, i] * w[j, i]
            out[r, j] = a0


@fast
def add_rows(g, w, out):  # type: ignore[no-untyped-def]
    """``out[r] += Σ_j g[r, j] · w[j]``."""
    rows, count, n = len(out), len(w), out.shape[1]
    for r in range(0, rows - rows % 3, 3):
        for j in range(0, count - count % 4, 4):
            a0, a1, a2, a3 = g[r, j], g[r, j + 1], g[r, j + 2], g[r, j + 3]
            b0, b1, b2, b3 = g[r + 1, j], g[r + 1, j + 1], g[r + 1, j + 2], g[r + 1, j + 3]
            c0, c1, c2, c3 = g[r + 2, j], g[r + 2, j + 1], g[r + 2, j + 2], g[r + 2, j + 3]
            for i in range(n):
                w0, w1, w2, w3 = w[j, i], w[j + 1, i], w[j + 2, i], w[j + 3, i]
                out[r, i] += a0 * w0 + a1 * w1 + a2 * w2 + a3 * w3
                out[r + 1, i] += b0 * w0 + b1 * w1 + b2 * w2 + b3 * w3
                out[r + 2, i] += c0 * w0 + c1 * w1 + c2 * w2 + c3 * w3
        for j in range(count - count % 4, count):
            for i in range(n):
                out[r, i] += g[r, j] * w[j, i]
                out[r + 1, i] += g[r + 1, j] * w[j, i]
                out[r + 2, i] += g[r + 2, j] * w[j, i]
    for r in range(rows - rows % 3, rows):
        for j in range(0, count - count % 4, 4):
            a0, a1, a2, a3 = g[r, j], g[r, j + 1], g[r, j + 2], g[r, j + 3]
            for i in range(n):
                out[r, i] += a0 * w[j, i] + a1 * w[j + 1, i] + a2 * w[j + 2, i] + a3 * w[j + 3, i]
        for j in range(count - count % 4, count):
            for i in range(n):
                out[r, i] += g[r, j] * w[j, i]


@fast
def activated(z, bias_of, alpha, gate):  # type: ignore[no-untyped-def]
    """z + bias becomes CELU of it; `gate` its slope, which is exp(z/α) below zero and 1 above.

    exp(t) = 2^k · 2^f, k whole and |f| ≤ ½: by the bits of a float, and Taylor's series.
    """
    rows, n = z.shape
    bits = np.empty(n, np.int32)
    powers = bits.view(np.float32)
    scale = per_octave / alpha
    for r in range(rows):
        for i in range(n):
            z[r, i] += bias_of[i]
            octaves = max(min(z[r, i], zero) * scale, lowest)
            whole = np.rint(octaves)
            gate[r, i] = octaves - whole
            bits[i] = np.int32((whole + bias) * unit)
        for i in range(n):
            f = gate[r, i]
            series = ONE + f * (c1 + f * (c2 + f * (c3 + f * (c4 + f * (c5 + f * c6)))))
            gate[r, i] = series * powers[i]
            z[r, i] = max(z[r, i], zero) + alpha * (gate[r, i] - ONE)


@fast
def gated(values, gate):  # type: ignore[no-untyped-def]
    """Each value times its gate."""
    for r in range(len(values)):
        for i in range(values.shape[1]):
            values[r, i] *= gate[r, i]


@adding
def up(x, weights, alpha, energies, slope, passed):  # type: ignore[no-untyped-def]
    """Energies and slopes of all members; what they pass is left in `passed`."""
    w1, b1, w2, b2, w3, b3, w4, b4 = weights
    for m in range(len(w1)):
        k = m if len(passed[0]) == len(w1) else 0
        a1, a2, a3 = passed[0][k], passed[1][k], passed[2][k]
        g1, g2, g3 = passed[3][k], passed[4][k], passed[5][k]
        s1, s2, s3 = passed[6][k], passed[7][k], passed[8][k]
        dots(x, w1[m], a1)
        activated(a1, b1[m], alpha, g1)
        dots(a1, w2[m], a2)
        activated(a2, b2[m], alpha, g2)
        dots(a2, w3[m], a3)
        activated(a3, b3[m], alpha, g3)
        for r in range(len(x)):
            energy = zero
            for i in range(a3.shape[1]):
                energy += a3[r, i] * w4[m, 0, i]
            energies[m, r] = energy + b4[m, 0]
            for i in range(a3.shape[1]):
                s3[r, i] = g3[r, i] * w4[m, 0, i]
        s2[:] = zero
        add_rows(s3, w3[m], s2)
        gated(s2, g2)
        s1[:] = zero
        add_rows(s2, w2[m], s1)
        gated(s1, g1)
        add_rows(s1, w1[m], slope[m if len(slope) == len(w1) else 0])


@fast
def bent(rise, slope, gate, alpha, bend):  # type: ignore[no-untyped-def]
    """What reaches a layer's gate: `bend` of its slope; the rest rises."""
    for r in range(len(rise)):
        for i in range(rise.shape[1]):
            through = rise[r, i]
            bend[r, i] = through * slope[r, i] / alpha if gate[r, i] < ONE else zero
            rise[r, i] = through * gate[r, i]


@fast
def add_outer(left, right, out):  # type: ignore[no-untyped-def]
    """``out += leftᵀ · right``."""
    add_rows(np.ascontiguousarray(left.T), right, out)


@fast
def add_sum(values, out):  # type: ignore[no-untyped-def]
    """``out += Σ_r values[r]``."""
    for r in range(len(values)):
        for i in range(len(out)):
            out[i] += values[r, i]


@adding
def down(x, weights, alpha, passed, e_bar, s_bar, bars):  # type: ignore[no-untyped-def]
    """Gradients of all members' weights (`bars`; empty: not wanted)."""
    w1, _, w2, _, w3, _, w4, _ = weights
    w1_bar, b1_bar, w2_bar, b2_bar, w3_bar, b3_bar, w4_bar, b4_bar = bars
    rows = len(x)
    r1 = np.empty((rows, w1.shape[1]), np.float32)
    r2, r3 = (
        np.empty((rows, w2.shape[1]), np.float32),
        np.empty((rows, w3.shape[1]), np.float32),
    )
    z1, z2, z3 = np.empty_like(r1), np.empty_like(r2), np.empty_like(r3)
    d1, d2 = np.empty_like(r1), np.empty_like(r2)
    for m in range(len(w1)):
        k = m if len(passed[0]) == len(w1) else 0
        a1, a2, a3 = passed[0][k], passed[1][k], passed[2][k]
        g1, g2, g3 = passed[3][k], passed[4][k], passed[5][k]
        s1, s2, s3 = passed[6][k], passed[7][k], passed[8][k]
        mine = s_bar[m if len(s_bar) == len(w1) else 0]
        dots(mine, w1[m], r1)
        bent(r1, s1, g1, alpha, z1)
        dots(r1, w2[m], r2)
        bent(r2, s2, g2, alpha, z2)
        dots(r2, w3[m], r3)
        bent(r3, s3, g3, alpha, z3)
        for r in range(rows):
            energy = e_bar[m, r]
            if len(b4_bar):
                b4_bar[m, 0] += energy
            if len(w4_bar):
                for i in range(r3.shape[1]):
                    w4_bar[m, 0, i] += r3[r, i] + energy * a3[r, i]
            for i in range(r3.shape[1]):
                z3[r, i] += energy * w4[m, 0, i] * g3[r, i]
        d2[:] = zero
        add_rows(z3, w3[m], d2)
        gated(d2, g2)
        z2 += d2
        d1[:] = zero
        add_rows(z2, w2[m], d1)
        gated(d1, g1)
        z1 += d1
        if len(w3_bar):
            add_outer(s3, r2, w3_bar[m])
            add_outer(z3, a2, w3_bar[m])
        if len(w2_bar):
            add_outer(s2, r1, w2_bar[m])
            add_outer(z2, a1, w2_bar[m])
        if len(w1_bar):
            add_outer(s1, mine, w1_bar[m])
            add_outer(z1, x, w1_bar[m])
        if len(b3_bar):
            add_sum(z3, b3_bar[m])
        if len(b2_bar):
            add_sum(z2, b2_bar[m])
        if len(b1_bar):
            add_sum(z1, b1_bar[m])
