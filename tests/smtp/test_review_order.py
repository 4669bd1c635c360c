"""DATA and BDAT without a recipient: out of order, or in vain (RFC 5321 section 3.3)."""

from __future__ import annotations

import pytest
from smtp_conversation import Conversation


@pytest.mark.parametrize("command", ["DATA", "BDAT 0 LAST"])
def test_content_before_any_recipient_is_out_of_order(command: str) -> None:
    conversation = Conversation()
    conversation.say("HELO a", "MAIL FROM:<>")
    conversation.play(f"C {command}\nS 503 5.5.1 Send RCPT first")


@pytest.mark.parametrize("command", ["DATA", "BDAT 0 LAST"])
@pytest.mark.parametrize("recipient", ["<nobody@hamburger.edu>", "<>", "<bob@elsewhere.example>"])
def test_content_after_refused_recipients_is_in_vain(command: str, recipient: str) -> None:
    conversation = Conversation()
    conversation.say("HELO a", "MAIL FROM:<>", f"RCPT TO:{recipient}")
    conversation.play(f"C {command}\nS 554 5.5.1 No valid recipients")


def test_refused_recipients_are_forgotten_with_their_transaction() -> None:
    conversation = Conversation()
    conversation.say("HELO a", "MAIL FROM:<>", "RCPT TO:<nobody@hamburger.edu>", "RSET")
    conversation.say("MAIL FROM:<>")
    conversation.play("C DATA\nS 503 5.5.1 Send RCPT first")
