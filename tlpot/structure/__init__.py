"""Frames, contacts, molecules, soundness and units."""
