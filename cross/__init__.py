"""Wheels for other machines: sysroots, cross compilers, pypatcher's own wheel, and a device's whole wheelhouse.

Nothing here knows an architecture; ``targets/*.toml`` does. docs/cross-building.md is for the people who use it.
"""
