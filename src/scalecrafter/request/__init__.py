"""One picture in plain values."""
