"""The benchmark's modules are found as bench/run finds them: beside each other, in its folder."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))
