"""Benchmarks: speed and memory of contenders measured in turn: `python -m dev.benchmarks`."""
