"""Work in several processes, here, by Dask or by Slurm."""
