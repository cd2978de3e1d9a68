"""Distillation: the unroll, the matching loss, the stages and the synthetic set."""
