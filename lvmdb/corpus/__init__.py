"""From texts, or from vectors made elsewhere, to ordered concepts with their vectors."""
