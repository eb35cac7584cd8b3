"""The node beside a program: in a Python application, or under ``pypatcher run``."""
