"""Small sets to train on: distilled ones, coresets of real galaxies, and sets that others made."""
