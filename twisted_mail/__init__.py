"""A mail server, a library and a test fixture on Twisted: SMTP and POP3 over one store.

Start at `docs/architecture.md`. The rooms import one way:
``tap|cli → service → smtp|pop3 → connection → delivery → policy|storage|accounts → world → message|sasl →
address|status``.
"""

__version__ = "0.1.0"
