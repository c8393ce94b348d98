"""The queue of runs, and the workers that train what it offers."""
