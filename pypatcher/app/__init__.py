"""The node beside a program: in a Python application, or under ``pypatcher run``.

Not here: what a node does (``node``), and how a process is restarted (``process``).
"""
