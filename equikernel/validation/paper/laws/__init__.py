"""Data beyond Gaussian mixtures: where the equivalents hold, and what is expected where they do not."""
