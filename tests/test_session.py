"""What the triggers of one connection share in an event loop, and how it ends."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from dataclasses import dataclass, field

import pytest

from airflow_provider_reportrun.client import session
from airflow_provider_reportrun.client.access import ApiAccess
from airflow_provider_reportrun.client.session import LOOK_UP_SECONDS, shared_session
from airflow_provider_reportrun.errors import InvalidInput, TransportError
from airflow_provider_reportrun.protocol import calls
from airflow_provider_reportrun.protocol.generations import named
from airflow_provider_reportrun.sandbox import Answer, Fault, Hold

ASK = calls.get_report(named("v2.reporting"), "balance_summary").request


@dataclass
class Book:
    """Where the connection is looked up; what it says may be changed."""

    url: str
    key: str
    reads: int = 0
    more: dict = field(default_factory=dict)
    failure: Exception | None = None

    async def __call__(self):
        """Look the connection up, giving other tasks their turn."""
        self.reads += 1
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        more = {"max_requests_per_second": 1000.0} | self.more
        return ApiAccess(conn_id="c", api_key=self.key, base_url=self.url, **more)


@pytest.fixture
def book(sandbox):
    """The sandbox's connection."""
    return Book(url=sandbox.url, key=sandbox.api_key)


@pytest.fixture(autouse=True)
def _nothing_left_open():
    """A session that was left open warns when it is collected, and a warning is an error."""
    yield
    gc.collect()


async def ask(shared, stripe_context=None):
    """Ask for a report, and give the status of the answer."""
    return (await shared.send(ASK, stripe_context=stripe_context)).status


def keys(sandbox):
    """The API keys that arrived."""
    return [request.headers["authorization"].split()[1] for request in sandbox.requests]


def none_open(sandbox):
    """Tell whether all connections end, which takes the server a moment to notice."""
    until = time.monotonic() + 5
    while sandbox.open_connections and time.monotonic() < until:
        time.sleep(0.005)
    return sandbox.open_connections == 0


# Who shares


def test_users_of_one_connection_share(book):
    """One session and one reading of the connection, however many come at once."""

    async def main():
        async def user():
            async with shared_session("c", book) as shared:
                return shared, await ask(shared)

        return await asyncio.gather(*[user() for _ in range(10)])

    used = asyncio.run(main())
    assert {status for _, status in used} == {200}
    assert len({id(shared) for shared, _ in used}) == 1
    assert book.reads == 1


def test_connections_do_not_share(book):
    """Each has a key of its own."""

    async def main():
        async with shared_session("c", book) as one, shared_session("d", book) as other:
            return one is not other, await ask(one), await ask(other)

    assert asyncio.run(main()) == (True, 200, 200)
    assert book.reads == 2


def test_loops_do_not_share(book):
    """A session belongs to its event loop: also where two run at the same time."""
    both = threading.Barrier(2, timeout=10)
    used = []

    async def main():
        async with shared_session("c", book) as shared:
            status = await ask(shared)
            await asyncio.to_thread(both.wait)
            used.append((shared, status))

    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    (one, first), (other, second) = used
    assert one is not other
    assert (first, second) == (200, 200)
    assert book.reads == 2


def test_many_requests_take_one_connection(sandbox, book):
    """It is kept open from request to request, and from user to user."""

    async def main():
        for _ in range(5):
            async with shared_session("c", book) as shared:
                for _ in range(10):
                    assert await ask(shared) == 200

    asyncio.run(main())
    assert len(sandbox.requests) == 50
    assert sandbox.connections == 1


def test_a_context_is_for_one_request(sandbox, book):
    """Triggers of one connection may be about different accounts."""
    book.more = {"stripe_context": "acct_own"}

    async def main():
        async with shared_session("c", book) as shared:
            for context in ("acct_1", None, "acct_2"):
                await ask(shared, context)

    asyncio.run(main())
    sent = [request.headers["stripe-context"] for request in sandbox.requests]
    assert sent == ["acct_1", "acct_own", "acct_2"]


# How it ends


def test_the_next_user_finds_the_session_open(sandbox, book):
    """It lingers after the last user, who may have been one of many in a row."""

    async def main():
        async with shared_session("c", book) as first:
            await ask(first)
        assert first.linger is not None
        async with shared_session("c", book) as second:
            assert second is first
            assert second.linger is None
            await ask(second)

    asyncio.run(main())
    assert sandbox.connections == 1


def test_closes_a_little_after_the_last_user(sandbox, book):
    """When nobody came for a while, nothing is kept; whoever comes then begins anew."""

    async def main():
        loop = asyncio.get_running_loop()
        async with shared_session("c", book) as first:
            await ask(first)
        await asyncio.sleep(0)
        assert not first.linger.done()
        real, loop.time = loop.time, lambda: real() + session.LINGER_SECONDS + 1
        await first.linger
        assert await asyncio.to_thread(none_open, sandbox)
        async with shared_session("c", book) as second:
            assert second is not first
            assert await ask(second) == 200

    asyncio.run(main())
    assert book.reads == 2


def test_one_user_who_leaves_does_not_close_it_for_others(book):
    """Neither by an end of its own, nor by being cancelled."""

    async def main():
        async with shared_session("c", book) as shared:
            await ask(shared)

            async def other():
                async with shared_session("c", book) as same:
                    await ask(same)
                    await asyncio.Event().wait()

            task = asyncio.create_task(other())
            while shared.users < 2:  # noqa: ASYNC110 - a moment
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            async with shared_session("c", book) as same:
                assert same is shared
            assert shared.linger is None
            return await ask(shared)

    assert asyncio.run(main()) == 200
    assert book.reads == 1


def test_nothing_is_left_where_a_loop_ends(sandbox, book):
    """A loop that ends while the session lingers closes it, as each one of dag.test() does."""

    async def main():
        async with shared_session("c", book) as shared:
            return await ask(shared)

    assert [asyncio.run(main()) for _ in range(3)] == [200] * 3
    assert none_open(sandbox)
    assert book.reads == 3


def test_nothing_is_left_where_a_loop_is_cancelled(sandbox, book):
    """All waits end at once, some in the middle of a request, and the last one closes."""
    held = sandbox.faults.add(Fault("get_report", Hold(seconds=10), times=None))

    async def main():
        async def user():
            async with shared_session("c", book) as shared:
                await ask(shared)

        tasks = [asyncio.create_task(user()) for _ in range(5)]
        await asyncio.to_thread(held.reached.wait, 10)
        return len(tasks)

    assert asyncio.run(main()) == 5
    held.release()
    assert none_open(sandbox)


def test_an_error_of_one_user_is_its_own(sandbox, book):
    """The session stays for the others."""

    async def failing():
        async with shared_session("c", book) as shared:
            await ask(shared)
            raise LookupError(shared)

    async def main():
        with pytest.raises(LookupError) as raised:
            await failing()
        async with shared_session("c", book) as shared:
            return shared is raised.value.args[0], await ask(shared)

    assert asyncio.run(main()) == (True, 200)
    assert sandbox.connections == 1


# What the connection says


@pytest.mark.parametrize(
    ("reads", "status"), [(2, 401), (2, 403), (1, 404), (1, 429), (1, 500), (1, 200)]
)
def test_a_refused_key_is_looked_up_again(sandbox, book, reads, status):
    """The next request reads the connection; other answers say nothing about the key."""
    sandbox.faults.add(Fault("get_report", Answer(status=status)))

    async def main():
        async with shared_session("c", book) as shared:
            return [await ask(shared) for _ in range(3)]

    assert asyncio.run(main()) == [status, 200, 200]
    assert book.reads == reads


@pytest.mark.parametrize(("reads", "age"), [(1, -5.0), (2, 5.0)], ids=["before", "after"])
def test_the_connection_is_looked_up_every_five_minutes(sandbox, book, reads, age):
    """Where it says the same as before, the session stays."""

    async def main():
        async with shared_session("c", book) as shared:
            await ask(shared)
            shared._looked_up_at -= LOOK_UP_SECONDS + age
            await asyncio.gather(*[ask(shared) for _ in range(5)])

    asyncio.run(main())
    assert book.reads == reads
    assert len(sandbox.requests) == 6


def test_looking_up_again_keeps_the_connection_open(sandbox, book):
    """Nothing is closed where nothing changed."""

    async def main():
        async with shared_session("c", book) as shared:
            for _ in range(4):
                await ask(shared)
                shared._looked_up_at = float("-inf")

    asyncio.run(main())
    assert book.reads == 4
    assert sandbox.connections == 1


def test_a_replaced_key_is_picked_up(sandbox, book):
    """Without a restart of the triggerer."""
    second = sandbox.keyring.second.value

    async def main():
        async with shared_session("c", book) as shared:
            await ask(shared)
            book.key = second
            shared._looked_up_at = float("-inf")
            await ask(shared)

    asyncio.run(main())
    assert keys(sandbox) == [sandbox.api_key, second]
    assert none_open(sandbox)


def test_a_replaced_key_does_not_cost_others_their_answer(sandbox, book):
    """A request that is under way while the key is replaced is answered all the same."""
    held = sandbox.faults.add(Fault("get_report", Hold(seconds=10)))

    async def main():
        async with shared_session("c", book) as shared:
            under_way = asyncio.create_task(ask(shared))
            await asyncio.to_thread(held.reached.wait, 10)
            book.key = sandbox.keyring.second.value
            book.more = {"request_timeout_seconds": 30.0}
            shared._looked_up_at = float("-inf")
            later = await ask(shared)
            held.release()
            return later, await under_way

    assert asyncio.run(main()) == (200, 200)
    assert none_open(sandbox)


def test_requests_that_queue_are_sent_with_the_key_that_is_valid_then(sandbox, book):
    """Whoever waits for the budget while the key is replaced is not refused for the old one."""
    book.more = {"max_requests_per_second": 20.0}
    second = sandbox.keyring.second.value

    async def main():
        async with shared_session("c", book) as shared:
            await ask(shared)
            queued = [asyncio.create_task(ask(shared)) for _ in range(3)]
            await asyncio.sleep(0)
            book.key = second
            shared._looked_up_at = float("-inf")
            return await asyncio.gather(ask(shared), *queued)

    assert asyncio.run(main()) == [200] * 4
    assert keys(sandbox) == [sandbox.api_key, *[second] * 4]


@pytest.mark.parametrize(
    "failure",
    [
        RuntimeError("no API server"),
        InvalidInput("There is no Airflow connection 'c'."),
        TransportError("Airflow could not look up the connection 'c'."),
        PermissionError("denied"),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_a_connection_that_cannot_be_read_again_still_holds(book, caplog, failure):
    """A moment without Airflow's own API server does not end what waits."""

    async def main():
        async with shared_session("c", book) as shared:
            await ask(shared)
            book.failure = failure
            shared._looked_up_at = float("-inf")
            return await ask(shared)

    assert asyncio.run(main()) == 200
    assert "cannot be read again" in caplog.text


def test_a_connection_that_cannot_be_read_may_be_mended(book):
    """The error is for whoever asked; the next request reads it again."""
    book.failure = InvalidInput("No key.")

    async def main():
        async with shared_session("c", book) as shared:
            with pytest.raises(InvalidInput):
                await ask(shared)
            book.failure = None
            return await ask(shared)

    assert asyncio.run(main()) == 200


def test_a_missing_ca_bundle_is_named_each_time(book, tmp_path):
    """It is the same error for every user, until the file is there or the field is changed."""
    book.more = {"ca_bundle": str(tmp_path / "missing.pem")}

    async def main():
        async with shared_session("c", book) as shared:
            for _ in range(3):
                with pytest.raises(InvalidInput, match="ca_bundle"):
                    await ask(shared)
            book.more = {}
            return await ask(shared)

    assert asyncio.run(main()) == 200


def test_a_connection_that_becomes_unusable_leaves_nothing_open(sandbox, book, tmp_path):
    """What was open before is closed, and comes back when the connection is mended."""

    async def main():
        async with shared_session("c", book) as shared:
            await ask(shared)
            book.more = {"ca_bundle": str(tmp_path / "missing.pem")}
            shared._looked_up_at = float("-inf")
            with pytest.raises(InvalidInput):
                await ask(shared)
            book.more = {}
            shared._looked_up_at = float("-inf")
            return await ask(shared)

    assert asyncio.run(main()) == 200
    assert none_open(sandbox)


# The budget


def test_requests_keep_their_distance(sandbox, book):
    """All users together send so many requests a second, and no burst at the start."""
    book.more = {"max_requests_per_second": 50.0}

    async def main():
        async def user():
            async with shared_session("c", book) as shared:
                await ask(shared)
                await ask(shared)

        await asyncio.gather(*[user() for _ in range(5)])

    asyncio.run(main())
    arrived = sorted(request.at.timestamp() for request in sandbox.requests)
    assert len(arrived) == 10
    assert 0.9 * 9 / 50 <= arrived[-1] - arrived[0] < 2.0


def test_errors_use_up_the_budget_as_answers_do(sandbox, book):
    """A refusal is a request too."""
    book.more = {"max_requests_per_second": 50.0}
    sandbox.faults.add(Fault("get_report", Answer(status=404), times=None))

    async def main():
        async with shared_session("c", book) as shared:
            return [await ask(shared) for _ in range(6)]

    assert asyncio.run(main()) == [404] * 6
    arrived = [request.at.timestamp() for request in sandbox.requests]
    assert arrived[-1] - arrived[0] >= 0.9 * 5 / 50
