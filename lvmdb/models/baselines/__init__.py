"""Predictors without gradients: what a trained model has to beat."""
