"""Hostile and broken input: valid small files of every kind that the program reads, changed, and read.

``python -m tests.fuzz --cases 10000`` runs cases of all kinds, ``python -m tests.fuzz --kind KIND --seed N`` repeats one.
"""
