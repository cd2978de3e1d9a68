"""Experts (teachers) and their trajectories."""
