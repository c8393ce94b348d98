"""From vectors back to words: the nearest concept, vec2text, generation, smoothing."""
