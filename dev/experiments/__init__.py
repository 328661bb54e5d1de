"""Experiments: settings compared out of fold over seeds, with their wall-clock, and the baselines beside them."""
