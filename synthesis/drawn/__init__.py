"""Drawn people: `python -m synthesis.drawn.sample`."""
