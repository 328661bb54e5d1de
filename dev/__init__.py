"""For developers: benchmarks and experiments."""
