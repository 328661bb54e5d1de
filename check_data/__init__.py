"""Checks of a data set and of the machine: `python -m check_data`."""
