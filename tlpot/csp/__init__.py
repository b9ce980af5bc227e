"""Ranking crystals: relaxed, told apart, matched, ordered by (free) energy."""
