"""AutoGen agents with a real side effect: `pay` appends a line to a file, which says how often it ran."""

import asyncio
import json
from typing import Any

from autogen_core import FunctionCall
from autogen_core.tools import FunctionTool

from tests.invariants.agents import write_effect

__all__ = ["call", "pay_tool"]


def call(name: str, *, id: str | None = None, **args: Any) -> FunctionCall:
    return FunctionCall(id=id or f"{name}-{'-'.join(map(str, args.values()))}", name=name, arguments=json.dumps(args))


def pay_tool(effects_file: str, *, delay: float = 0.0) -> FunctionTool:
    async def pay(eur: int) -> str:
        """Pay somebody."""
        write_effect(effects_file, f"pay {eur}")
        await asyncio.sleep(delay)
        return f"paid {eur}"

    return FunctionTool(pay, description="Pay somebody.")
