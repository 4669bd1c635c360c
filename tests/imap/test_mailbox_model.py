"""Three clients, other programs, and a model that none of them may diverge from."""

from __future__ import annotations

from hypothesis import settings
from mailbox_model import MailboxModel

TestMailboxesInMemory = MailboxModel.TestCase
TestMailboxesInMemory.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
