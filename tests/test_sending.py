"""What the configuration makes of sending: who we are, what is rewritten, whether the queue runs."""

from __future__ import annotations

from typing import Any

import pytest

from twisted_mail.accounts.directory import Directory
from twisted_mail.address import Address
from twisted_mail.config import Config
from twisted_mail.resolving import SharedResolver
from twisted_mail.sending import Sending
from twisted_mail.testing import MailServer, simulated_world
from twisted_mail.testing.dns import FakeResolver


def configured(tmp_path: Any, **keys: Any) -> Config:
    return Config.model_validate(
        {"hostname": "mx.here.example", "data": "data", **keys}, context={"directory": tmp_path}
    )


def sending(config: Config, directory: Directory, *addresses: tuple[str, str]) -> Sending:
    world = simulated_world()
    return Sending(config, world, directory, addresses, SharedResolver(config.dns, world))


@pytest.fixture
def directory(tmp_path):
    world = simulated_world()
    made = Directory(str(tmp_path / "accounts"), now=world.now, entropy=world.entropy)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("address", "literals"),
    [
        ("192.0.2.1:25", {"[192.0.2.1]"}),
        ("[2001:db8::1]:25", {"[IPv6:2001:db8::1]"}),
        ("0.0.0.0:25", {"[127.0.0.1]", "[IPv6:::1]"}),
        ("192.0.2.1:2525", set()),
        ("/run/smtp", set()),
    ],
)
def test_who_we_are(tmp_path, directory, address, literals):
    found = sending(configured(tmp_path), directory, ("smtp", address), ("pop3", "::1:25"))
    assert found.literals == literals


def test_forwarded_mail_has_a_sender_of_the_configured_domain(tmp_path, directory):
    stranger = Address.parse("carol@far.example")
    for keys, domain in (
        ({}, "alias.example"),
        ({"delivery": {"srs_domain": "here.example"}}, "here.example"),
    ):
        srs = sending(configured(tmp_path, **keys), directory).srs
        ours = srs.forward(stranger, "alias.example")
        assert ours.domain == domain
        assert srs.reverse(ours) == stranger


def test_rewriting_can_be_switched_off(tmp_path, directory):
    config = configured(tmp_path, delivery={"srs": False})
    assert sending(config, directory).srs is None


def test_the_secret_of_rewriting_outlives_the_process(tmp_path, directory):
    one, two = (sending(configured(tmp_path), directory).srs for _ in range(2))
    stranger = Address.parse("carol@far.example")
    assert two.reverse(one.forward(stranger, "here.example")) == stranger


def test_a_password_file_that_is_not_there_keeps_the_server_from_starting(tmp_path, directory):
    route = {"domain": "*", "via": "smtp://relay.example", "username": "u", "password_file": "no"}
    with pytest.raises((OSError, ValueError)):
        sending(configured(tmp_path, routes=[route]), directory)


@pytest.mark.parametrize("run", [True, False])
def test_whether_the_queue_runs(tmp_path, run):
    world = simulated_world(resolver=FakeResolver({}))
    server = world.run(
        MailServer.start(
            world,
            users={"alice@here.example": "a-password"},
            directory=tmp_path,
            configuration={"queue": {"run": run}},
        )
    )
    assert (server._service.rooms.sending._manager is not None) is run
    server._service.reload()
    world.run(server.stop())
