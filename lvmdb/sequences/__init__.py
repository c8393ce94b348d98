"""Sequence sets, their splits, the batch that models see, and the stream that fills it."""
