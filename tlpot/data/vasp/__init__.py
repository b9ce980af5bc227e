"""VASP's output: OUTCAR, vasprun.xml and what their tags say."""
