"""All targets, by their names."""

import fuzz_engines  # noqa: F401
import fuzz_files  # noqa: F401
import fuzz_mail  # noqa: F401
import fuzz_messages  # noqa: F401
import fuzz_names  # noqa: F401
import fuzz_outside  # noqa: F401
import fuzz_policies  # noqa: F401
import fuzz_sessions  # noqa: F401
from fuzzing import TARGETS, Target

__all__ = ["TARGETS", "Target"]
