"""Labels from other engines, here or as VASP jobs."""
