"""What people do in a `storm.Storm`: they write, read, file and delete, alone or several at once, and stay or go.

Each is a happening: a function of the storm, that tells its `truth` what was done and what was answered. `PEOPLE` has
them all, with how often they come.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from .follower import Follower
from .talk import Imap, Pop3, Submission, fetched, stuffed
from .truth import Deed, Letter, Wrong, token_of

if TYPE_CHECKING:
    from .storm import Storm

__all__ = ["PEOPLE"]


def receive(storm: Storm) -> None:
    """A letter from the other site, on port 25 and by its line."""
    letter = storm.letter(f"zoe@{storm.away}", some_users(storm))
    smtp = Submission(storm.connect(25, storm.there), storm.pass_)
    smtp.hello()
    send(storm, smtp, letter)


def submit(storm: Storm) -> None:
    """A user's letter, to anybody."""
    sender = storm.random.choice(storm.truth.users)
    away = [f"{name}@{storm.away}" for name in ("yes", "later", "never")]
    recipients = some_users(storm) + storm.random.sample(away, storm.random.randint(0, 2))
    address = storm.line()
    smtp = Submission(storm.dial(465, address), storm.pass_)
    if smtp.login(sender, storm.password):
        send(storm, smtp, storm.letter(sender, recipients))
    else:
        smtp.abort()
        storm.accept_failure("login", address)


def send(storm: Storm, smtp: Submission, letter: Letter) -> None:
    if smtp.begin(letter.sender, letter.recipients) is not True:
        letter.answered = False
    elif storm.random.random() < 0.15:
        # gone in the midst of it: there is no letter
        letter.answered = False
        cut = storm.random.randrange(len(letter.content))
        smtp.client.send(stuffed(letter.content)[:cut])
    else:
        letter.answered = smtp.content(letter.content)
    storm.say(f"{letter.token} to {len(letter.recipients)}: {letter.answered}")
    storm.truth.sent(letter)
    smtp.abort()


def append(storm: Storm) -> None:
    user, folder = storm.random.choice(storm.truth.users), storm.random.choice(storm.truth.folders)
    letter = storm.letter(user, ())
    with storm.imap(user, storm.line()) as imap:
        letter.answered = imap.command(f"APPEND {folder}", letter.content)
    storm.say(f"{letter.token} {folder}: {letter.answered}")
    storm.truth.appended(user, letter, folder)


def change(storm: Storm) -> None:
    """COPY, MOVE, EXPUNGE or STORE of some messages."""
    user = storm.random.choice(storm.truth.users)
    with storm.imap(user, storm.line()) as imap:
        if (fire := _ready_to_change(storm, imap, user)) is not None:
            for deed in fire()():
                storm.truth.did(deed)


def fetch(storm: Storm) -> None:
    """POP3: all is read, some is deleted, with a QUIT or without."""
    user = storm.random.choice(storm.truth.users)
    address = storm.line()
    pop = Pop3(storm.dial(995, address), storm.pass_)
    if not pop.login(user, storm.password):
        pop.abort()
        storm.accept_failure("login", address)
        return
    if (messages := pop.retrieve()) is None:
        pop.abort()
        return
    tokens = delete_some(storm, pop, messages)
    # RFC 1939 section 6: who goes without a QUIT has deleted nothing
    answered = pop.quit() if storm.random.random() < 0.7 else False
    pop.abort()
    storm.say(f"{user} deletes {len(tokens)}: {answered}")
    for token in tokens:
        storm.truth.did(Deed(user, token, "INBOX", "", answered))


def delete_some(storm: Storm, pop: Pop3, messages: Sequence[bytes]) -> list[str]:
    chosen = storm.random.sample(range(len(messages)), min(len(messages), 2))
    return [
        token
        for number in chosen
        if pop.delete(number + 1) and (token := token_of(messages[number])) is not None
    ]


Finish = Callable[[], list[Deed]]
"""Waits for the answer, and says what was done."""
Fire = Callable[[], Finish]
"""Sends what was made ready, and lets nothing happen yet."""


def crowd(storm: Storm) -> None:
    """Several at once in one account, on lines of different length: nobody knows who comes first."""
    user = storm.random.choice(storm.truth.users)
    sessions: list[Imap | Pop3 | Submission] = []
    ready: list[tuple[str, Fire]] = []
    for number in range(1, storm.random.randint(3, 5)):
        address = f"203.0.113.{number}"
        what = storm.random.choice(("change", "change", "change", "append", "fetch", "send"))
        if what == "fetch":
            session: Imap | Pop3 | Submission = Pop3(storm.dial(995, address), storm.pass_)
        elif what == "send":
            session = Submission(storm.connect(25, address), storm.pass_)
        else:
            session = Imap(storm.dial(993, address), storm.pass_)
        sessions.append(session)
        if (fire := _ready(storm, session, user, what)) is not None:
            ready.append((address, fire))
    ends = []
    for address, fire in ready:
        storm.root.network.host(address).latency = storm.random.random()
        ends.append(fire())
    storm.pass_(storm.random.choice((0.0, 0.001, 0.2, 2.0)))
    if storm.random.random() < 0.3:
        storm.random.choice(sessions).abort()
    storm.random.shuffle(ends)
    deeds = [deed for end in ends for deed in end()]
    for session in sessions:
        session.abort()
    for address, _ in ready:
        storm.root.network.host(address).heal()
    # What is refused may have been done in part: the others were there, too.
    storm.truth.did_at_once(
        [deed if deed.answered else deed._replace(answered=None) for deed in deeds]
    )


def _ready(storm: Storm, session: Imap | Pop3 | Submission, user: str, what: str) -> Fire | None:
    if isinstance(session, Submission):
        return _ready_to_send(storm, session)
    if not session.login(user, storm.password):
        return None
    if isinstance(session, Pop3):
        return _ready_to_quit(storm, session, user)
    if what == "append":
        return _ready_to_append(storm, session, user)
    return _ready_to_change(storm, session, user)


def _ready_to_change(storm: Storm, imap: Imap, user: str) -> Fire | None:
    source, target = storm.random.sample(storm.truth.folders, 2)
    box = imap.look(source)
    if box is None or not box.messages or not imap.command(f"SELECT {source}"):
        return None
    there = {uid: token_of(content) for uid, content in box.messages.items()}
    uids = storm.random.sample(sorted(there), min(len(there), storm.random.randint(1, 4)))
    chosen = ",".join(map(str, uids))
    tokens = [token for uid in uids if (token := there[uid]) is not None]
    what = storm.random.choice(("COPY", "MOVE", "EXPUNGE", "STORE"))
    words = f"UID {what} {chosen} {target}"
    if what == "STORE":
        # Not in place of those that are there: another client's \Deleted would be gone before its EXPUNGE.
        words = rf"UID STORE {chosen} +FLAGS (\Seen $Storm{storm.random.randrange(3)})"
    elif what == "EXPUNGE":
        if not imap.command(rf"UID STORE {chosen} +FLAGS (\Deleted)"):
            return None
        words = f"UID EXPUNGE {chosen}"

    def fire() -> Finish:
        finish = imap.begin(words)

        def finished() -> list[Deed]:
            answered = finish()
            storm.say(f"{user} {what} {chosen} of {source}: {answered}")
            if what == "STORE":
                return []
            to = "" if what == "EXPUNGE" else target
            return [Deed(user, one, source, to, answered, what == "COPY") for one in tokens]

        return finished

    return fire


def _ready_to_append(storm: Storm, imap: Imap, user: str) -> Fire:
    folder, letter = storm.random.choice(storm.truth.folders), storm.letter(user, ())

    def fire() -> Finish:
        finish = imap.begin(f"APPEND {folder}", letter.content)

        def finished() -> list[Deed]:
            letter.answered = finish()
            storm.say(f"{letter.token} {folder}: {letter.answered}")
            storm.truth.appended(user, letter, folder)
            return []

        return finished

    return fire


def _ready_to_quit(storm: Storm, pop: Pop3, user: str) -> Fire | None:
    if (messages := pop.retrieve()) is None:
        return None
    tokens = delete_some(storm, pop, messages)

    def fire() -> Finish:
        finish = pop.ask_to_quit()

        def finished() -> list[Deed]:
            answered = finish()
            storm.say(f"{user} deletes {len(tokens)}: {answered}")
            return [Deed(user, token, "INBOX", "", answered) for token in tokens]

        return finished

    return fire


def _ready_to_send(storm: Storm, smtp: Submission) -> Fire | None:
    smtp.hello()
    letter = storm.letter(f"zoe@{storm.away}", some_users(storm))
    if not smtp.begin(letter.sender, letter.recipients):
        return None

    def fire() -> Finish:
        finish = smtp.ask_to_take(letter.content)

        def finished() -> list[Deed]:
            letter.answered = finish()
            storm.say(f"{letter.token} to {len(letter.recipients)}: {letter.answered}")
            storm.truth.sent(letter)
            return []

        return finished

    return fire


def stay(storm: Storm) -> None:
    """A session that stays, and believes what it is told; some days it comes back with what it knew (QRESYNC)."""
    user, folder = storm.random.choice(storm.truth.users), storm.random.choice(storm.truth.folders)
    quick = storm.random.random() < 0.6
    follower = storm.followers[user, folder] if quick else Follower(folder, quick=False)
    if any(follower is other for _, _, other in storm.sessions):
        return
    imap = Imap(storm.dial(993, storm.line()), storm.pass_)
    if imap.login(user, storm.password) and follower.open(imap):
        storm.say(f"{user} {folder}{' QRESYNC' if quick else ''}")
        storm.sessions.append((imap, user, follower))
    else:
        imap.abort()


def read_slowly(storm: Storm) -> None:
    """A client that asks for everything and reads it late, or never."""
    user, folder = storm.random.choice(storm.truth.users), storm.random.choice(storm.truth.folders)
    imap = Imap(storm.dial(993, storm.line()), storm.pass_)
    if not imap.login(user, storm.password) or not imap.command(f"SELECT {folder}"):
        imap.abort()
        return
    finish = imap.begin("UID FETCH 1:* (UID BODY.PEEK[])")
    imap.client.stop_reading()
    storm.pass_(storm.random.random() * 100)
    if storm.random.random() < 0.3:
        return  # It is there until the server has had enough of it.
    imap.client.go_on_reading()
    if finish():
        for uid, content in fetched(imap.text).items():
            letter = storm.truth.letters.get(token_of(content) or "")
            if letter is not None and not content.endswith(letter.content):
                raise Wrong(f"{user} {folder} {uid}: letter {letter.token} is not what was sent")
    imap.abort()


def leave(storm: Storm) -> None:
    """One that stayed goes, in good order or without a word."""
    if storm.sessions:
        imap, _, _ = storm.sessions.pop(storm.random.randrange(len(storm.sessions)))
        if storm.random.random() < 0.5:
            imap.command("LOGOUT")
        imap.abort()


def some_users(storm: Storm) -> list[str]:
    return storm.random.sample(storm.truth.users, storm.random.randint(1, len(storm.truth.users)))


PEOPLE: Final[Sequence[tuple[Callable[[Storm], None], int]]] = (
    (receive, 12),
    (submit, 8),
    (append, 4),
    (change, 12),
    (crowd, 6),
    (fetch, 4),
    (stay, 5),
    (leave, 2),
    (read_slowly, 2),
)
