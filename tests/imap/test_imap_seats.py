"""Sessions of an account are counted, in one process and in several."""

from twisted_mail.imap.seats import Seats
from twisted_mail.testing import simulated_world
from twisted_mail.testing.siblings import SharedSite


def test_an_account_has_so_many() -> None:
    seats = Seats(2)
    assert [seats.take("ada") for _ in range(3)] == [True, True, False]
    assert seats.take("ben")
    seats.give_back("ada")
    assert seats.take("ada")


def test_in_all_processes_of_a_site() -> None:
    site = SharedSite()
    first = site.join(simulated_world())
    worlds = [first, site.join(first.at("192.0.2.1"))]
    one, two = (Seats(2, world.siblings.counts("seats")) for world in worlds)
    assert one.take("ada")
    assert two.take("ada")
    assert not one.take("ada")
    assert not two.take("ada")
    one.give_back("ada")
    assert two.take("ada")
