"""Crystals out of CIF, SHELX and POSCAR files, symmetry and all."""
