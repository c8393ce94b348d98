"""From vectors back to words: nearest concepts, vec2text, generation, smoothing."""
