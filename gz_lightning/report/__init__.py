"""The page on one run or several."""
