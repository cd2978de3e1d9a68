"""``python -m gz_lightning``: the command line."""

from gz_lightning.cli import main

if __name__ == "__main__":
    main()
