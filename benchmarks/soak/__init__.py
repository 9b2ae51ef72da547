"""A long run of a consortium under random faults: `make soak`, or `python -m benchmarks.soak`."""
