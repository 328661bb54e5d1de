"""Drawn sample people: `python -m synthesis.drawn.sample`."""
