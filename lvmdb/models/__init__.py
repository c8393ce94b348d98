"""Vector-native sequence models and the baselines they are held against."""
