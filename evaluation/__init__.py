"""Metrics with intervals, logit tables, decision rules, calibration, and the results of a run."""
