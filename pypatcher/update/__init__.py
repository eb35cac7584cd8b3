"""Which release this device takes, from whom, and when it takes over.

Not here: how bytes travel (``transfer``), and what is on disk (``install``).
"""
