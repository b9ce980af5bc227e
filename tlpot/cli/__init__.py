"""The verbs of ``tlpot``, one file a family, and all printing."""
