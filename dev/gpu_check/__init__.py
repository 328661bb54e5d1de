"""What only a GPU can show: tests on the card and benchmarks, each section with a time limit of its own."""
