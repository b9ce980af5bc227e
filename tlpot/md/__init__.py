"""Molecular dynamics that can be interrupted, and that stops when it runs away."""
