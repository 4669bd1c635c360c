"""What the SMTP server says, as answers that are built once.

Every line of 2xx, 4xx and 5xx carries an enhanced code (RFC 2034 section 4), but for the greeting
and the replies to HELO and EHLO. The constants are shared by all sessions: nobody changes them.
"""

from __future__ import annotations

from typing import Final

from ..connection.interfaces import Answer, Then
from ..status import MailError, Reply
from .engine import DATA, MORE

__all__ = ["refusal", "reply"]

_MAX_TEXT: Final = 400


def reply(code: int, enhanced: str | None, *lines: str, then: Then = Then.GO_ON) -> Answer:
    """An answer with these lines."""
    return Answer(Reply(code, enhanced, lines).encode(), then)


def refusal(error: MailError, utf8: bool = False) -> Answer:
    """`error` as the client reads it: one printable line, ASCII unless `utf8`."""
    text = error.text[:_MAX_TEXT]  # RFC 5321 section 4.5.3.1.5
    # RFC 6531 section 3.7.4: only who asked for SMTPUTF8 reads UTF-8
    if not (text.isprintable() and (utf8 or text.isascii())):
        text = "".join(c if c.isprintable() and (utf8 or c.isascii()) else "?" for c in text)
    # RFC 5321 section 3.8: 421 is the end of the session
    then = Then.CLOSE if error.code == 421 else Then.GO_ON
    return reply(error.code, error.enhanced, text, then=then)


READ_ON: Final = Answer(expect=MORE)

OK: Final = reply(250, "2.0.0", "Ok")
SENDER_OK: Final = reply(250, "2.1.0", "Ok")
RECIPIENT_OK: Final = reply(250, "2.1.5", "Ok")
SEND_CONTENT: Final = Answer(b"354 End data with <CR><LF>.<CR><LF>\r\n", expect=DATA)
LOGGED_IN: Final = reply(235, "2.7.0", "Authentication succeeded")
START_TLS: Final = reply(220, "2.0.0", "Ready to start TLS", then=Then.START_TLS)
GOODBYE: Final = reply(221, "2.0.0", "Bye", then=Then.CLOSE)
CANNOT_VERIFY: Final = reply(252, "2.0.0", "Cannot verify, but will try to deliver")
HELP: Final = reply(
    214,
    "2.0.0",
    "HELO EHLO MAIL RCPT DATA BDAT RSET NOOP",
    "VRFY HELP STARTTLS AUTH QUIT: see RFC 5321",
)

LOCAL_ERROR: Final = reply(451, "4.3.0", "Local error in processing, try again later")
LOGIN_ERROR: Final = reply(454, "4.7.0", "Temporary authentication failure")

LINE_TOO_LONG: Final = reply(500, "5.5.2", "Line too long")
# RFC 4954 section 6
RESPONSE_TOO_LONG: Final = reply(500, "5.5.6", "Authentication exchange line is too long")
ENDLESS_LINE: Final = reply(421, "4.7.0", "Line without an end", then=Then.CLOSE)
NOT_SMTP: Final = reply(421, "4.7.0", "This is SMTP", then=Then.CLOSE)
IMPOSSIBLE_CHUNK: Final = reply(421, "4.5.4", "No such chunk size", then=Then.CLOSE)
UNKNOWN_COMMAND: Final = reply(500, "5.5.2", "Command not recognised")
NOT_IMPLEMENTED: Final = reply(502, "5.5.1", "Command not implemented")
NO_LOGIN_HERE: Final = reply(502, "5.5.1", "No login on this port, mail programs use 587 or 465")
NO_ARGUMENT: Final = reply(501, "5.5.4", "This command has no argument")
# RFC 2034 section 4: no enhanced code in a reply to HELO or EHLO
HELLO_SYNTAX: Final = reply(501, None, "Syntax: EHLO domain")
VRFY_SYNTAX: Final = reply(501, "5.5.4", "Syntax: VRFY address")
AUTH_SYNTAX: Final = reply(501, "5.5.4", "Syntax: AUTH mechanism [initial-response]")
BDAT_SYNTAX: Final = reply(501, "5.5.4", "Syntax: BDAT size [LAST]")

NO_HELLO: Final = reply(503, "5.5.1", "Send HELO or EHLO first")
NESTED_MAIL: Final = reply(503, "5.5.1", "Nested MAIL command")
NO_MAIL: Final = reply(503, "5.5.1", "Send MAIL first")
NO_RCPT: Final = reply(503, "5.5.1", "Send RCPT first")
NO_RECIPIENT: Final = reply(554, "5.5.1", "No valid recipients")
CHUNKS_BEGUN: Final = reply(503, "5.5.1", "Only BDAT and RSET are possible after BDAT")
MAIL_SYNTAX: Final = reply(501, "5.5.4", "Syntax: MAIL FROM:<address> [parameters]")
RCPT_SYNTAX: Final = reply(501, "5.5.4", "Syntax: RCPT TO:<address> [parameters]")
TOO_BIG: Final = reply(552, "5.3.4", "Message too big")
TOO_MANY_RECIPIENTS: Final = reply(452, "4.5.3", "Too many recipients, send the rest later")
# RFC 6531 section 3.5
SENDER_NEEDS_UTF8: Final = reply(550, "5.6.7", "A non-ASCII address needs SMTPUTF8")
RECIPIENT_NEEDS_UTF8: Final = reply(553, "5.6.7", "A non-ASCII address needs SMTPUTF8")

# RFC 3207 section 4
TLS_FIRST: Final = reply(530, "5.7.0", "Must issue a STARTTLS command first")
# RFC 8689 section 2: within TLS only
REQUIRETLS_NEEDS_TLS: Final = reply(530, "5.7.10", "REQUIRETLS needs TLS on this connection, too")
TLS_ALREADY: Final = reply(503, "5.5.1", "TLS is on already")
BYTES_BEHIND_STARTTLS: Final = reply(554, "5.5.1", "Nothing may be sent behind STARTTLS")
# RFC 4954 section 6
LOGIN_FIRST: Final = reply(530, "5.7.0", "Authentication required")
LOGIN_NEEDS_TLS: Final = reply(538, "5.7.11", "Encryption required: issue STARTTLS first")
LOGIN_ALREADY: Final = reply(503, "5.5.1", "Authenticated already")
LOGIN_CANCELLED: Final = reply(501, "5.7.0", "Authentication cancelled")
NO_MECHANISM: Final = reply(504, "5.5.4", "Authentication mechanism not offered")
