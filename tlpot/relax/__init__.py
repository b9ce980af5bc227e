"""Relaxing structures, many at a time."""
