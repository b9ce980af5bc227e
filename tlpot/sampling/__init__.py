"""Proposing geometries, and choosing those to label."""
