"""Opening pipelines; the embedded models."""
