"""The macros that milters are told at each stage: those that Postfix sends by default, and the client's.

Names are without their braces. A macro whose value is not known is left out.
"""

from __future__ import annotations

from ..status import Reply
from .interfaces import Client, Login, Recipient, Sender, Tls

__all__ = ["connect_macros", "helo_macros", "mail_macros", "queue_macros", "rcpt_macros"]


def connect_macros(client: Client, version: str) -> dict[str, str]:
    """At connect. `version`: the name and version of this program."""
    name = client.name or "unknown"
    return _known(
        j=client.hostname,
        daemon_name=client.daemon,
        v=version,
        _=f"{name} [{client.ip}]" if client.ip else name,
        client_name=name,
        client_ptr=name,
        client_addr=client.ip or "unknown",
        client_port=str(client.port) if client.port else "",
    )


def helo_macros(tls: Tls | None) -> dict[str, str]:
    """At HELO."""
    if tls is None:
        return {}
    return _known(
        tls_version=tls.version,
        cipher=tls.cipher,
        cipher_bits=str(tls.bits) if tls.bits else "",
        cert_subject=tls.subject,
        cert_issuer=tls.issuer,
    )


def mail_macros(sender: Sender, login: Login | None, queue_id: str) -> dict[str, str]:
    """At MAIL."""
    return _known(
        i=queue_id,
        auth_type=login.mechanism if login else "",
        auth_authen=login.name if login else "",
        mail_addr=str(sender.address) if sender.address else "<>",
        mail_host=sender.address.domain if sender.address else "",
        mail_mailer="smtp",
    )


def rcpt_macros(recipient: Recipient, refused: Reply | None, queue_id: str) -> dict[str, str]:
    """At RCPT. `refused`: this side does not take it; then the macros say how, as Postfix has it."""
    if refused is not None:
        return _known(
            i=queue_id,
            rcpt_addr=" ".join(refused.lines),
            rcpt_host=refused.enhanced or "",
            rcpt_mailer="error",
        )
    return _known(
        i=queue_id,
        rcpt_addr=str(recipient.address),
        rcpt_host=recipient.address.domain,
        rcpt_mailer="smtp",
    )


def queue_macros(queue_id: str) -> dict[str, str]:
    """At DATA, the end of the header, and the end of the content."""
    return _known(i=queue_id)


def _known(**values: str) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}
