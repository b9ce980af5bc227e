"""Powder patterns: simulated, and crystal systems read off them."""
