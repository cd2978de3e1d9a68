"""Galaxies in: votes and cut-outs, one packed file, batches."""
