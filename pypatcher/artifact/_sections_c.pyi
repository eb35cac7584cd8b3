"""Types of the compiled twin: those of the pure one."""

from pypatcher.artifact._sections_py import parse_header as parse_header
from pypatcher.artifact._sections_py import parse_sections as parse_sections
from pypatcher.artifact._sections_py import section_names as section_names
