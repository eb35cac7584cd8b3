"""Types of the compiled twin: those of the pure one."""

from pypatcher.artifact._chunks_py import find_cut as find_cut
