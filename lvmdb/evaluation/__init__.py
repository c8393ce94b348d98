"""Predictions and evaluations of a run, as rows."""
