"""Fresh networks trained on a set and scored on galaxies."""
