"""Who may come into memory: shares and claims."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from twisted_mail.queue.destination import Destination
from twisted_mail.queue.schedule import Settings, Standing
from twisted_mail.queue.window import Window
from twisted_mail.testing.queue import queued_message

SETTINGS = Settings(window=400)


def make() -> tuple[Window, dict[str, Destination]]:
    destinations: dict[str, Destination] = {}
    window = Window(SETTINGS, destinations)
    window.open = True
    return window, destinations


def known(
    window: Window, destinations: dict[str, Destination], hop: str, standing: Standing
) -> Destination:
    destination = destinations[hop] = Destination(hop, SETTINGS, 0.0)
    if standing is Standing.FAILING:
        destination.health.failed(0.0, 0.5, "x")
    elif standing is Standing.WELL:
        destination.health.opened()
    window.reclass(destination)
    return destination


def test_claims_are_counted_at_once_and_until_they_are_settled() -> None:
    window, destinations = make()
    known(window, destinations, "far.example", Standing.WELL)
    messages = [queued_message(f"m{n}", "bob@far.example", arrived=0.0) for n in range(200)]
    claimed = [message for message in messages if window.claim(message)]
    assert len(claimed) == SETTINGS.share * 3 // 4
    assert window.refused
    window.settle(claimed[:10])
    assert sum(window.claim(message) for message in messages[100:150]) == 10
    assert window.begin()[0] == SETTINGS.window // 4


def test_claims_from_many_threads_never_pass_the_bound() -> None:
    window, destinations = make()
    for number in range(20):
        known(window, destinations, f"d{number}.example", Standing.WELL)
    messages = [
        queued_message(f"m{n}", f"bob@d{n % 20}.example", f"eve@d{n % 7}.example", arrived=0.0)
        for n in range(2000)
    ]
    with ThreadPoolExecutor(8) as pool:
        claimed = list(pool.map(window.claim, messages))
    assert sum(claimed) * 2 == SETTINGS.window * 3 // 4
    window.settle(messages)
    assert window.claim(messages[0])


def test_nothing_is_claimed_for_what_fails_or_while_closed() -> None:
    window, destinations = make()
    known(window, destinations, "dead.example", Standing.FAILING)
    assert not window.claim(queued_message("a", "bob@dead.example", arrived=0.0))
    assert not window.claim(queued_message("b", "bob@far.example", "bob@dead.example", arrived=0.0))
    assert window.claim(queued_message("c", "bob@far.example", arrived=0.0))
    window.open = False
    assert not window.claim(queued_message("d", "bob@far.example", arrived=0.0))


def test_all_that_fail_together_get_their_part_only_and_their_turn_later() -> None:
    window, destinations = make()
    window.begin()
    for number in range(100):
        known(window, destinations, f"d{number}.example", Standing.FAILING)
    granted = [window.share(f"d{number}.example") for number in range(100)]
    assert sum(granted) == SETTINGS.probe_window
    used = {f"d{number}.example": one for number, one in enumerate(granted) if one}
    for hop, count in used.items():
        window.add(destinations[hop], count)
    window.end(used)
    assert not window.pending
    for hop, count in used.items():
        window.add(destinations[hop], -count)
    assert window.pending
    _, reopened = window.begin()
    assert len(set(reopened) - set(used)) == SETTINGS.probe_window // SETTINGS.probe_share


def test_a_destination_with_more_than_its_share_is_asked_for_again_at_half_of_it() -> None:
    window, destinations = make()
    far = known(window, destinations, "far.example", Standing.WELL)
    window.begin()
    assert window.share("far.example") == SETTINGS.share
    window.add(far, SETTINGS.share)
    window.end({"far.example": SETTINGS.share})
    window.add(far, -SETTINGS.share // 2 + 1)
    assert not window.pending
    window.add(far, -1)
    assert window.begin()[1] == ["far.example"]
