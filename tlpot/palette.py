"""Colours of the figures."""

from __future__ import annotations

BLUE, ORANGE = "#2a78d6", "#eb6834"
INK, MUTED, GRID = "#1f2328", "#6e7781", "#e6e8eb"
BEFORE, AFTER, HELD_OUT = "#D55E00", "#0072B2", "#009E73"
FAINT = "#8c959f"
