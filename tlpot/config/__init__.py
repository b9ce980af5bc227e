"""Sections of a config, the bases that it may name, and the template."""
