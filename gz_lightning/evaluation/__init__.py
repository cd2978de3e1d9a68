"""What a distilled set is worth: protocol, baselines and report."""
