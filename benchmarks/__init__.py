"""Scripts that measure what the README and the docs claim."""
