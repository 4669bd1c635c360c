from __future__ import annotations

import threading

import pytest
from dns_waiting import Loop

from twisted_mail.dns.pool import Pool


async def value(deferred):
    return await deferred


@pytest.fixture
def loop():
    return Loop()


def test_no_thread_before_it_is_needed(loop):
    assert Pool(loop.callFromThread, 4).threads == 0


def test_work_is_done_elsewhere_and_its_result_comes_back_here(loop):
    pool = Pool(loop.callFromThread, 4)
    here = threading.get_ident()
    [there] = loop.wait(value(pool.call(threading.get_ident)))
    assert there != here
    done = pool.call(threading.get_ident)
    ran = []
    done.addCallback(lambda _: ran.append(threading.get_ident()))
    loop.wait(value(done))
    assert ran == [here]
    pool.close()


def test_what_it_raises_comes_back(loop):
    pool = Pool(loop.callFromThread, 1)
    with pytest.raises(ZeroDivisionError):
        loop.wait(value(pool.call(lambda: 1 // 0)))
    assert loop.wait(value(pool.call(lambda: 2))) == [2]  # the thread lives
    pool.close()


def test_as_many_at_once_as_there_may_be_threads_and_no_more(loop):
    pool = Pool(loop.callFromThread, 3)
    together = threading.Barrier(4)  # three threads and this one
    go = threading.Event()

    def work():
        together.wait(30)
        go.wait(30)

    first = [pool.call(work) for _ in range(3)]
    late = pool.call(threading.get_ident)
    together.wait(30)
    assert pool.threads == 3
    assert not late.called
    go.set()
    loop.wait(*(value(one) for one in [*first, late]))
    assert pool.threads <= 3
    pool.close()


def test_a_thread_with_nothing_to_do_is_used_again_and_ends_in_the_end(loop):
    pool = Pool(loop.callFromThread, 3, idle=0.05)
    for number in range(20):
        assert loop.wait(value(pool.call(lambda number=number: number))) == [number]
    for thread in [one for one in threading.enumerate() if one.name == "dns"]:
        thread.join(30)
    assert pool.threads == 0
    assert loop.wait(value(pool.call(lambda: "again"))) == ["again"]
    pool.close()


def test_closed_it_begins_nothing_and_its_threads_end(loop):
    pool = Pool(loop.callFromThread, 1)
    begun, go, ran = threading.Event(), threading.Event(), []

    def work():
        begun.set()
        go.wait(30)

    first = pool.call(work)
    begun.wait(30)
    waiting = pool.call(lambda: ran.append("waiting"))
    pool.close()
    pool.close()
    late = pool.call(lambda: ran.append("late"))
    go.set()
    for thread in [one for one in threading.enumerate() if one.name == "dns"]:
        thread.join(30)
    assert pool.threads == 0
    assert ran == []
    assert not (first.called or waiting.called or late.called)
    assert loop._work.empty()


def test_closed_its_idle_threads_end_at_once(loop):
    pool = Pool(loop.callFromThread, 2, idle=10_000)
    together = threading.Barrier(2)
    threads = loop.wait(
        *(
            value(pool.call(lambda: (together.wait(30), threading.current_thread())[1]))
            for _ in "ab"
        )
    )
    pool.close()
    for thread in threads:
        thread.join(30)
    assert pool.threads == 0


def test_threads_do_not_hold_up_the_end_of_the_process(loop):
    pool = Pool(loop.callFromThread, 1)
    assert loop.wait(value(pool.call(lambda: threading.current_thread().daemon))) == [True]
    pool.close()
