"""Loss, trainer, freezing, checkpoints, run folders."""
