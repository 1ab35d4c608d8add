"""Studies: each a short file whose `configs()` returns the runs, in the order of their value. See `run.py`."""
