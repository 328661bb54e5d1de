"""HTML report of a run: `python -m reporting`."""
