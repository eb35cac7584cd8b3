"""Types of the compiled twin: those of the pure one."""

from pypatcher.artifact._hashing_py import feed as feed
from pypatcher.artifact._hashing_py import find_all as find_all
