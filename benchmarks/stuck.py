"""Is the agent stuck? What a look costs at each step, and what reading everything again would cost.

A run in which nothing is wrong: other calls, other results, a little talk. `watch.see` is timed at its end, with a
history of so many messages; beside it a new watch that reads all of it.

    python benchmarks/stuck.py [--steps 200] [--words 60]
"""

import argparse
import random
import statistics
import time

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from hitl_graph.stuck import Watch

SIZES = (10, 200, 2000)


def history(length: int, words: int) -> list[BaseMessage]:
    """A run of an agent that gets on."""
    dice = random.Random(7)
    names = [
        f"{a}{b}{c}" for a in "bdfgklmnprstvw" for b in ("a", "ei", "o", "u") for c in ("ral", "nit", "sen", "dor")
    ]
    messages: list[BaseMessage] = [HumanMessage("Look through the invoices and tell me what is open.", id="m0")]
    while len(messages) < length:
        number = len(messages)
        call = {"name": "look_up", "args": {"number": number, "of": dice.choice(names)}, "id": f"c{number}"}
        found = " ".join(dice.choices(names, k=words))
        messages.append(AIMessage("Let me see the next one.", tool_calls=[call], id=f"m{number}"))
        messages.append(ToolMessage(f"{number}: {found}", tool_call_id=f"c{number}", id=f"m{number + 1}"))
    return messages[:length]


def measure(length: int, steps: int, words: int) -> tuple[float, float, float]:
    """Milliseconds: a step with the same objects, a step with a history loaded anew, reading everything."""
    messages = history(length + steps, words)
    watch, loaded = Watch(), Watch()
    same: list[float] = []
    anew: list[float] = []
    watch.see(messages[:length])
    loaded.see(messages[:length])
    for end in range(length + 1, length + steps + 1):
        seen = messages[:end]
        start = time.perf_counter()
        assert watch.see(seen) is None
        same.append(time.perf_counter() - start)
        if len(anew) < 20:
            copies = [message.model_copy() for message in seen]
            start = time.perf_counter()
            assert loaded.see(copies) is None
            anew.append(time.perf_counter() - start)
    start = time.perf_counter()
    assert Watch().see(messages[:length]) is None
    whole = time.perf_counter() - start
    return statistics.median(same) * 1000, statistics.median(anew) * 1000, whole * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200, help="messages to time, after the history")
    parser.add_argument("--words", type=int, default=60, help="words in a result")
    options = parser.parse_args()
    print(f"{options.steps} messages after a history of so many, results of {options.words} words, medians")
    print(f"{'messages':>8}{'ms a step':>12}{'loaded anew':>14}{'from scratch':>14}")
    measure(10, 20, options.words)  # to warm up
    for length in SIZES:
        same, anew, whole = measure(length, options.steps, options.words)
        print(f"{length:8}{same:12.3f}{anew:14.3f}{whole:14.1f}")


if __name__ == "__main__":
    main()
