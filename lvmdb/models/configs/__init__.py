"""The options of each architecture that is trained by gradients."""
