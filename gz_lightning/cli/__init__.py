"""The command line."""

from gz_lightning.cli.commands import main

__all__ = ["main"]
