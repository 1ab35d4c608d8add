"""This project beside its peers on the same rows: `python benchmarks/run.py`, or `make benchmark`."""
