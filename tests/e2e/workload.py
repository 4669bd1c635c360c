"""Something of everything that a site does, for tests that look at how it does it."""

from __future__ import annotations

import imaplib

from mailsite import ALICE, BOB, PASSWORD, Site, letter


def workload(site: Site) -> None:
    """Something of everything: small and large mail, in and out, all protocols, what is made, moved and deleted."""
    for number in range(3):
        site.send(f"small {number}", to=(ALICE, BOB))
    with site.smtp() as session:
        session.sendmail("carol@elsewhere.example", [ALICE], letter("large", size=700_000))
    with site.smtp(ALICE) as session:
        session.sendmail(ALICE, ["dave@far.example"], letter("out", sender=ALICE))
        session.sendmail(ALICE, ["dave@far.example"], letter("out large", size=700_000))
    client = imaplib.IMAP4_SSL("localhost", site.ports["imaps"], ssl_context=site.tls)
    with client:
        client.login(ALICE, PASSWORD)
        client.create("Work")
        assert client.select()[0] == "OK"
        client.append("INBOX", "", "", letter("appended"))
        client.append("INBOX", "", "", letter("appended large", size=700_000))
        client.copy("1:3", "Work")
        client.store("1", "+FLAGS", "\\Deleted")
        client.uid("MOVE", "2", "Work")
        client.expunge()
        client.search(None, "TEXT", '"This is"')
        assert client.fetch("1:*", "(ENVELOPE BODYSTRUCTURE BODY.PEEK[])")[0] == "OK"
        client.rename("Work", "Play")
        client.delete("Play")
    with site.pop(BOB) as session:
        session.retr(1)
        session.dele(1)
    site.mailctl("status")
    site.mailctl("user", "passwd", BOB, "--password-stdin", input="another one\n")
