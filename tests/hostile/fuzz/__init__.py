"""The fuzzer: valid files of every kind that the program reads, changed, and read.

``python -m tests.hostile.fuzz`` runs all kinds; ``--kind KIND --seed N`` repeats one case.
"""
