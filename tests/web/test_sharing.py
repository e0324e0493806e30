"""Work that is shared: once for all, and never older than the question."""

import asyncio

import pytest

from hitl_graph.web.sharing import Sharing


async def test_many_who_ask_at_once_share_few_works_and_none_gets_an_older_one() -> None:
    sharing, clock = Sharing(pause=0.05), asyncio.get_running_loop().time
    begun = list[float]()

    async def make() -> bytes:
        begun.append(clock())
        await asyncio.sleep(0.01)
        return str(begun[-1]).encode()

    async def ask(after: float) -> None:
        await asyncio.sleep(after)
        asked = clock()
        assert float(await sharing.get("list", make)) >= asked

    began = clock()
    await asyncio.gather(*(ask(n / 1000) for n in range(200)))
    assert 2 <= len(begun) <= (clock() - began) / 0.05 + 2
    assert await sharing.get("another list", make) == str(begun[-1]).encode()
    await asyncio.sleep(0.2)
    assert not sharing._works


async def test_whoever_goes_away_takes_nothing_from_the_others_and_an_error_is_for_all_who_asked() -> None:
    sharing = Sharing(pause=0.01)

    async def make() -> bytes:
        await asyncio.sleep(0.02)
        raise LookupError("gone")

    first = asyncio.create_task(sharing.get("list", make))
    await asyncio.sleep(0.005)
    others = [asyncio.create_task(sharing.get("list", make)) for _ in range(3)]
    await asyncio.sleep(0)
    others[0].cancel()
    for task in (first, *others[1:]):
        with pytest.raises(LookupError, match="gone"):
            await task
    with pytest.raises(asyncio.CancelledError):
        await others[0]
