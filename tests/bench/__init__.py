"""Benchmarks: ratios against peers, measured side by side in one run. Never a timed test."""
