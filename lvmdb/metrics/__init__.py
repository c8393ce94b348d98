"""Metrics of a predicted vector: pure functions of arrays, each defined once and versioned."""
