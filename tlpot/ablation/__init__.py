"""Sweeps over configs: many runs, one table and its figures."""
