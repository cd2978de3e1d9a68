"""What a distilled set is worth, beside real galaxies."""
