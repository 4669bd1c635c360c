"""Which of these tests there are: the ARC suite only where somebody names its directory."""

from __future__ import annotations

import os

collect_ignore = [] if os.environ.get("ARC_TEST_SUITE") else ["test_arc_suite.py"]
