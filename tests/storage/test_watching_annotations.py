"""Who watches annotations hears what other sessions of the account changed (`Mailboxes.watch_metadata`)."""

from __future__ import annotations

from store_site import Site


def test_other_sessions_are_told(tmp_path):
    site = Site(str(tmp_path / "data")).start()
    run = site.run
    one = run(site.store.open_mailboxes("d/a"))
    other = run(site.store.open_mailboxes("d/a"))
    stranger = run(site.store.open_mailboxes("d/b"))
    heard = []
    end = one.watch_metadata(lambda name, entries: heard.append((name, tuple(entries))))
    run(other.set_metadata("INBOX", {"/private/comment": b"x", "/shared/comment": None}))
    run(other.set_metadata("", {"/private/comment": b"x"}))
    run(one.set_metadata("INBOX", {"/private/comment": b"y"}))
    run(stranger.set_metadata("INBOX", {"/private/comment": b"y"}))
    assert heard == [
        ("INBOX", ("/private/comment", "/shared/comment")),
        ("", ("/private/comment",)),
    ]
    end()
    end()
    run(other.set_metadata("INBOX", {"/private/comment": None}))
    assert len(heard) == 2
    # What is not ended by hand is at the session's end
    one.watch_metadata(lambda name, entries: heard.append((name, tuple(entries))))
    run(one.close())
    run(other.set_metadata("INBOX", {"/private/comment": b"z"}))
    assert len(heard) == 2
    for session in (other, stranger):
        run(session.close())
    site.world.reactor.advance(1)
    site.stop()
