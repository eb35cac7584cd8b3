"""Hostile bytes for every parser: see ``targets`` for what must hold, ``__main__`` for ``make fuzz``."""
