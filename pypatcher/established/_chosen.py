"""Which of the two forms of this room runs: the compiled one where there is one, else the source.

The compiled module has all names of all modules that it is made of, and is put in the place of each before any is
imported: whoever imports one of them gets the same classes as everybody else. Not here: how it is made, by
``_speedups/established.py``.
"""

from __future__ import annotations

import os
import sys

__all__ = ["COMPILED"]

COMPILED = False
"""Whether the compiled form is in use."""

if os.environ.get("PYPATCHER_NO_EXTENSIONS", "0") in ("", "0"):
    try:
        from pypatcher.established._established_c import MODULES  # type: ignore[import-not-found]
    except ImportError:
        pass
    else:
        COMPILED = True
        _compiled = sys.modules["pypatcher.established._established_c"]
        for _name in MODULES:
            sys.modules[f"pypatcher.established.{_name}"] = _compiled
            setattr(sys.modules["pypatcher.established"], _name, _compiled)
