"""What puts one node together: its parts, what it remembers, and what it says about itself.

Not here: how any part works (the rooms below), and how it runs beside a program (``app``).
"""
