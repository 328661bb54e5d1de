"""Experiments: settings and seeds trained and compared out of fold: `python -m dev.experiments`."""
