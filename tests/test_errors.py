"""The errors: one tree, which can be caught by its root, drawn truthfully, and sent to another process."""

import copy
import pickle
import re

import pytest

from hitl_graph import errors
from hitl_graph.errors import (
    AlreadyDecidedError,
    ChatError,
    HitlError,
    InvalidDecisionError,
    RequestError,
    ThreadBusyError,
    UnknownRequestError,
)

CLASSES: list[type[HitlError]] = [getattr(errors, name) for name in errors.__all__]


def made(of: type[HitlError]) -> HitlError:
    if issubclass(of, AlreadyDecidedError):
        return of("abc", "alice", "reject")
    if of is ChatError:
        return ChatError("thread-1", ("abc", "def"), "went wrong")
    if of is ThreadBusyError:
        return ThreadBusyError("thread-1", "host/boot/pid:[1]/7/99|a1b2c3d4|0")
    return of("abc", "went wrong") if issubclass(of, RequestError) else of("went wrong")


@pytest.mark.parametrize("of", CLASSES)
def test_every_error_is_caught_by_the_root(of: type[HitlError]) -> None:
    assert issubclass(of, HitlError)


def test_every_error_is_public_and_drawn_in_the_tree() -> None:
    defined = {
        name for name, item in vars(errors).items() if isinstance(item, type) and item.__module__ == errors.__name__
    }
    drawn = re.findall(r"^[ │├└─]*(\w+Error)\b", str(errors.__doc__), re.MULTILINE)
    assert defined == set(errors.__all__) == set(drawn)
    assert len(drawn) == len(set(drawn))


def test_the_tree_is_drawn_as_it_is() -> None:
    line = re.compile(r"^ {4}((?:[│ ] {3})*)(?:[├└]── )?(\w+Error)\b(.*)$")
    above: list[type[HitlError]] = []
    for text in str(errors.__doc__).splitlines():
        if found := line.match(text):
            of: type[HitlError] = getattr(errors, found[2])
            depth = 0 if found[2] == "HitlError" else len(found[1]) // 4 + 1
            del above[depth:]
            if above:
                assert of.__bases__[0] is above[-1]
            for builtin in re.findall(r"also (\w+)", found[3]):
                assert any(base.__name__ == builtin for base in of.__mro__)
            above.append(of)


@pytest.mark.parametrize("of", CLASSES)
def test_every_error_survives_pickling_and_copying_with_all_it_says(of: type[HitlError]) -> None:
    error = made(of)
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(twin) is of
        assert str(twin) == str(error)
        assert vars(twin) == vars(error)


def test_an_error_about_a_request_names_it() -> None:
    error = InvalidDecisionError("abc", "does not fit")
    assert (error.request_id, str(error)) == ("abc", "request abc: does not fit")


def test_who_lost_is_told_who_won_and_that_nothing_was_recorded() -> None:
    error = AlreadyDecidedError("abc", "alice", "reject")
    assert (error.decided_by, error.word) == ("alice", "reject")
    assert str(error) == (
        "request abc: already decided: reject by alice. Your answer was not recorded; look at the request again"
    )


def test_they_can_be_caught_as_the_builtin_errors_they_are() -> None:
    assert issubclass(UnknownRequestError, LookupError)
    assert issubclass(InvalidDecisionError, ValueError)
