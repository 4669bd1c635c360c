"""``twistd mailserver``: the name twistd looks up. All else is in `twisted_mail.tap`, imported when asked for.

No ``__init__.py`` here nor in ``twisted/``: the one would hide the plugin, the other would hide Twisted itself.
"""

from twisted.application.service import ServiceMaker

mailserver = ServiceMaker(
    "Mail server",
    "twisted_mail.tap",
    "A mail server: SMTP, submission and POP3 over TLS, with accounts and durable mail.",
    "mailserver",
)
