"""How much is given to whom, how much is taken from whom, and what failures may cost. Pure: clocks are passed in.

Not here: what is given and taken (``transfer``), and what counts as a failure (``update``).
"""

from __future__ import annotations

from pypatcher.budgets.upload_limits import UploadLimiter

__all__ = ["UploadLimiter"]
