"""The potential: prediction, calculator, model file, energy reference, its domain."""
