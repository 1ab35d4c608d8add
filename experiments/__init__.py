"""Studies: each a short file named by its question, whose `steps()` go from nothing to its report. See `run.py`."""
