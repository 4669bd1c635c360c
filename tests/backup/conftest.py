"""Sites as the tests of storage have them, and their directories in memory."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "storage"))
from store_fixtures import nothing_is_left_open, tmp_path

__all__ = ["nothing_is_left_open", "tmp_path"]
