"""Thunderbird on a screen of its own: it logs in, lists, opens, marks, hears of new mail and deletes.

It is asked what it shows; what it did is seen in the Maildir. Pictures stay in the test's directory.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from imapsite import files, imap, letters, ok
from mailsite import ALICE, DEADLINE, PASSWORD, free_ports, run, until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.needs("thunderbird", "Xvfb", "import", "certutil"),
]

PATIENCE = 3 * DEADLINE  # it starts slowly on a busy machine


def preferences(site, profile: Path, marionette: int) -> dict[str, object]:
    server, smtp = "mail.server.server1.", "mail.smtpserver.smtp1."
    return {
        "mail.accountmanager.accounts": "account1",
        "mail.accountmanager.defaultaccount": "account1",
        "mail.account.account1.identities": "id1",
        "mail.account.account1.server": "server1",
        "mail.identity.id1.useremail": ALICE,
        "mail.identity.id1.smtpServer": "smtp1",
        "mail.identity.id1.valid": True,
        "mail.smtpservers": "smtp1",
        f"{smtp}hostname": "localhost",
        f"{smtp}port": site.ports["submissions"],
        f"{smtp}try_ssl": 3,
        f"{smtp}username": ALICE,
        f"{server}type": "imap",
        f"{server}hostname": "localhost",
        f"{server}port": site.ports["imaps"],
        f"{server}socketType": 3,  # TLS from the first byte
        f"{server}authMethod": 3,
        f"{server}userName": ALICE,
        f"{server}name": "example.org",
        f"{server}login_at_startup": False,  # before it knows the password
        f"{server}check_new_mail": False,
        f"{server}directory": str(profile / "ImapMail"),
        f"{server}directory-rel": "[ProfD]ImapMail",
        "marionette.port": marionette,
        "mailnews.mark_message_read.delay": False,
        "mail.biff.show_alert": False,
        # no questions at the first start, and nothing asked of other machines
        "mail.rights.version": 1,
        "mail.shell.checkDefaultClient": False,
        "mail.spotlight.firstRunDone": True,
        "mail.provider.suppress_dialog_on_startup": True,
        "mailnews.start_page.enabled": False,
        "mailnews.start_page_override.mstone": "ignore",
        "app.update.enabled": False,
        "app.donation.eoy.version.viewed": 999,
        "app.normandy.enabled": False,
        "datareporting.healthreport.uploadEnabled": False,
        "datareporting.policy.dataSubmissionEnabled": False,
        "dom.push.enabled": False,
        "extensions.getAddons.cache.enabled": False,
        "extensions.update.enabled": False,
        "network.captive-portal-service.enabled": False,
        "network.connectivity-service.enabled": False,
        "services.settings.server": "http://127.0.0.1:9/",
        "toolkit.telemetry.enabled": False,
    }


class Screen:
    """An X server without a screen."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        ours, theirs = os.pipe()
        self._server = subprocess.Popen(
            ["Xvfb", "-displayfd", str(theirs), "-screen", "0", "1280x900x24", "-nolisten", "tcp"],
            pass_fds=[theirs],
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs)
        with os.fdopen(ours) as said:
            number = said.readline().strip()
        assert number, "Xvfb did not start"
        self.env = {**os.environ, "DISPLAY": f":{number}"}

    def picture(self, name: str) -> None:
        run(["import", "-window", "root", self._directory / f"{name}.png"], env=self.env)

    def close(self) -> None:
        self._server.kill()
        self._server.wait(DEADLINE)


@pytest.fixture
def screen(tmp_path) -> Iterator[Screen]:
    made = Screen(tmp_path)
    yield made
    made.close()


class Thunderbird:
    """A running Thunderbird and a line to it: scripts that run where its own windows' do (Marionette)."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        until(lambda: self._connect(port), "marionette listens", PATIENCE)
        self._do("WebDriver:NewSession", capabilities={})
        self._do("Marionette:SetContext", value="chrome")

    def _connect(self, port: int) -> bool:
        assert self.process.poll() is None
        try:
            self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        except ConnectionRefusedError:
            return False
        self._stream = self._socket.makefile("rb")
        self._receive()
        return True

    def _receive(self) -> object:
        length = b""
        while (octet := self._stream.read(1)) != b":":
            assert octet, "Thunderbird has gone"
            length += octet
        return json.loads(self._stream.read(int(length)))

    def _do(self, name: str, **parameters: object) -> object:
        text = json.dumps([0, 1, name, parameters]).encode()
        self._socket.sendall(b"%d:%b" % (len(text), text))
        _, _, error, value = self._receive()
        assert error is None, error
        return value

    def script(self, text: str, *arguments: str) -> object:
        """Run it in the main window; what it returns. It may await, and knows the names of `_PRELUDE`."""
        return self._do(
            "WebDriver:ExecuteScript",
            script=f"{_PRELUDE}\nreturn (async () => {{ {text} }})();",
            args=list(arguments),
            sandbox="system",
            newSandbox=True,
        )["value"]

    def close(self) -> None:
        self._stream.close()
        self._socket.close()

    # What it is told, and what it shows

    def remember(self, user: str, password: str) -> None:
        self.script(
            """
            const login = Cc["@mozilla.org/login-manager/loginInfo;1"].createInstance(Ci.nsILoginInfo);
            login.init("imap://localhost", null, "imap://localhost", args[0], args[1], "", "");
            await Services.logins.addLoginAsync(login);
            """,
            user,
            password,
        )

    def open_inbox(self) -> None:
        self.script("tabmail.currentTabInfo.folder = root.getFolderWithFlags(flags.Inbox);")

    def listed(self) -> list[str]:
        """The subjects of the messages in its list, sorted."""
        return sorted(
            self.script(
                """
                const view = about()?.gDBView;
                const rows = view ? [...Array(view.rowCount).keys()] : [];
                return rows.map(row => view.getMsgHdrAt(row).mime2DecodedSubject);
                """
            )
        )

    def folders(self) -> list[str]:
        """The lines of the folders' pane."""
        said = self.script('return about().document.getElementById("folderTree").innerText;')
        return said.split("\n")

    def open(self, subject: str) -> None:
        self.script(
            """
            const view = about().gDBView;
            about().threadTree.selectedIndex = [...Array(view.rowCount).keys()].find(
                row => view.getMsgHdrAt(row).mime2DecodedSubject == args[0]);
            """,
            subject,
        )

    def opened(self) -> str:
        """The text of the message in its message pane."""
        return self.script(
            """
            const shown = about().messageBrowser.contentWindow;
            return shown.getMessagePaneBrowser()?.contentDocument?.body?.innerText ?? "";
            """
        )

    def command(self, name: str) -> None:
        self.script("about().commandController.doCommand(args[0]);", name)

    def stars(self) -> list[str]:
        """The subjects of what it shows as starred."""
        return self.script(
            """
            const view = about().gDBView;
            return [...Array(view.rowCount).keys()].map(row => view.getMsgHdrAt(row))
                .filter(header => header.isFlagged).map(header => header.mime2DecodedSubject);
            """
        )


_PRELUDE = """
const args = [...arguments];
const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
const root = MailServices.accounts.defaultAccount.incomingServer.rootFolder;
const flags = Ci.nsMsgFolderFlags;
const tabmail = document.getElementById("tabmail");
const about = () => tabmail.currentAbout3Pane;
"""


@pytest.fixture
def thunderbird(site, screen, tmp_path) -> Iterator[Thunderbird]:
    profile = tmp_path / "profile"
    profile.mkdir()
    (port,) = free_ports(1)
    run(["certutil", "-N", "-d", f"sql:{profile}", "--empty-password"])
    run(["certutil", "-A", "-d", f"sql:{profile}", "-n", "ours", "-t", "C,,", "-i", site.ca])
    (profile / "user.js").write_text(
        "".join(
            f"user_pref({json.dumps(key)}, {json.dumps(value)});\n"
            for key, value in preferences(site, profile, port).items()
        )
    )
    command = ["thunderbird", "--profile", str(profile), "--no-remote", "--marionette"]
    with (tmp_path / "thunderbird.log").open("wb") as log:
        running = subprocess.Popen(
            [*command, "--remote-allow-system-access"],
            env={**screen.env, "HOME": str(tmp_path), "MOZ_CRASHREPORTER_DISABLE": "1"},
            stdout=log,
            stderr=log,
        )
    try:
        made = Thunderbird(running, port)
        yield made
        made.close()
    finally:
        running.terminate()
        try:
            running.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait(DEADLINE)


def flags(site, subject: str, folder: str = "") -> str | None:
    """The flags that the name of this message's file says; None while there is no such message."""
    for path in files(site, folder):
        # it may get another name at this moment
        with suppress(FileNotFoundError):
            if f"Subject: {subject}\n".encode() in path.read_bytes():
                return letters(path)
    return None


def test_it_lists_opens_marks_hears_and_deletes(site, screen, thunderbird):
    site.send("hello Thunderbird")
    site.send("Minutes of the meeting")
    thunderbird.remember(ALICE, PASSWORD)
    thunderbird.open_inbox()
    wanted = ["Minutes of the meeting", "hello Thunderbird"]
    until(lambda: thunderbird.listed() == wanted, "it lists both", PATIENCE)
    # special use is understood: its own names for them
    until(
        lambda: (
            {"Inbox", "Drafts", "Sent", "Archives", "Spam", "Trash"} <= set(thunderbird.folders())
        ),
        "it shows the folders",
    )
    assert "'name': 'Thunderbird'" in site.log  # ID

    thunderbird.open("hello Thunderbird")
    until(
        lambda: thunderbird.opened().startswith("This is hello Thunderbird."), "it shows the text"
    )
    until(lambda: flags(site, "hello Thunderbird") == "S", "what was opened is read")
    screen.picture("opened")
    thunderbird.command("cmd_markAsFlagged")
    until(lambda: flags(site, "hello Thunderbird") == "FS", "what it starred is flagged")

    # IDLE: a delivery, a mail read elsewhere
    site.send("while it is open")
    until(lambda: "while it is open" in thunderbird.listed(), "it hears of a delivery")
    with imap(site, folder="INBOX") as session:
        ok(session.store("2", "+FLAGS", r"(\Flagged)"))
    until(
        lambda: sorted(thunderbird.stars()) == ["Minutes of the meeting", "hello Thunderbird"],
        "it hears what another client flagged",
    )

    thunderbird.command("cmd_delete")
    until(lambda: flags(site, "hello Thunderbird", ".Trash") == "FS", "what it deletes is in Trash")
    assert flags(site, "hello Thunderbird") is None
    until(
        lambda: thunderbird.listed() == ["Minutes of the meeting", "while it is open"],
        "and no longer in its list",
    )
    screen.picture("deleted")
    assert "Traceback" not in site.log
