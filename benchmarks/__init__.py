"""Benchmarks: `python -m benchmarks.<name> [--json] [--quick]`; the last line printed is one JSON object."""
