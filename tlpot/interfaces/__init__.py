"""Models for torchani, torch-sim and metatomic."""
