"""The two loops: what a conversation asks for is done, and what goes wrong comes through."""

from __future__ import annotations

import pytest
from protocol.script import answer, lost

from airflow_provider_reportrun.errors import InvalidInput, TransportError
from airflow_provider_reportrun.protocol.messages import Request, Sleep

ASK = Request(method="GET", path="/")


def test_answers_come_back_in_order(world):
    """Requests and pauses are carried out as they are asked for; only requests have answers."""

    def flow():
        first = yield ASK
        nothing = yield Sleep(2.0)
        second = yield ASK
        return first.status, nothing, second.status

    assert world.carry_out(flow(), answer(200), answer(404)) == (200, None, 404)
    assert world.pauses == [2.0]


def test_a_conversation_may_end_without_a_word(world):
    """What it returns is returned."""

    def flow():
        return "done"
        yield ASK

    assert world.carry_out(flow()) == "done"


def test_a_lost_answer_is_told_to_the_conversation(world):
    """Which may go on, for the error is thrown in where the answer would have been."""

    def flow():
        try:
            yield ASK
        except TransportError:
            response = yield ASK
        return response.status

    assert world.carry_out(flow(), lost(), answer(200)) == 200


@pytest.mark.parametrize("error", [InvalidInput("The connection."), KeyError("a bug")], ids=repr)
def test_other_errors_of_sending_are_no_answers(world, error):
    """A bug or a connection that cannot be used ends it, whatever the conversation tolerates."""

    def flow():
        try:
            yield ASK
        except Exception as caught:
            raise AssertionError from caught

    with pytest.raises(type(error)):
        world.carry_out(flow(), error)


def test_errors_of_the_conversation_come_through(world):
    """Nothing is wrapped or swallowed."""

    def flow():
        yield ASK
        raise LookupError

    with pytest.raises(LookupError):
        world.carry_out(flow(), answer(200))
