"""From end to end on real posts: an agent that moderates, people who disagree and are late, a database, crashes.

    python benchmarks/moderation.py FOLDER_OF_LABELS [--posts 3000]

The posts are those of Davidson et al. 2017, with the votes of their annotators, who are the people here: the first to
look at a post gives one of its votes, so they contradict each other and the majority as they did. The model is the one
of `learning.py`. Every post is a thread of a real graph. Prints, for each part of the posts, how often people were
asked, and of what was decided alone, how often one of the people says otherwise.
"""

import argparse
import gzip
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from learning import TRAINED_ON, fit, tasks

from hitl_graph.checkpointers import SqliteCheckpointer
from hitl_graph.inbox import Inbox
from hitl_graph.learning import Certificate, DecisionLog, Guarantee, Unsure
from hitl_graph.model import approve, edit
from hitl_graph.nodes import ApprovalNode
from hitl_graph.policy import Policy, Rule
from hitl_graph.worker import Worker

UNSURE = Unsure(
    lambda call: call.args["score"],
    guarantee=Guarantee(0.1, 0.9),
    audit_rate=0.1,
    double_rate=0.1,
    version="1",
    secret=b"of the benchmark",
)


@tool
def moderate(post: str, label: str, score: float) -> str:
    """Say what a post is."""
    return label


def proposals(folder: Path, cache: Path, count: int) -> list[tuple[str, str, float, list[str]]]:
    """Id, label and score that the model gives, and the votes of its annotators, for posts it was not trained on."""
    task = next(one for one in tasks(folder, cache) if one.name == "davidson_dev")
    with gzip.open(folder / "davidson_dev.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    order = np.random.default_rng(0).permutation(len(rows))
    train, rest = order[: TRAINED_ON[task.name]], order[TRAINED_ON[task.name] :][:count]
    model = fit(task.features[train], task.labels[train])
    probability = model.predict_proba(task.features[rest])
    found = []
    for index, row in zip(rest, probability, strict=True):
        votes = [label for label, number in rows[index]["votes"].items() for _ in range(number)]
        found.append((str(rows[index]["id"]), str(model.classes_[row.argmax()]), float(row.max()), votes))
    return found


def build(checkpointer: SqliteCheckpointer, proposed: dict[str, tuple[str, float]]) -> Any:
    def propose(state: MessagesState) -> dict[str, Any]:
        post = state["messages"][-1].text
        label, score = proposed[post]
        call = {"name": "moderate", "args": {"post": post, "label": label, "score": score}, "id": "1"}
        return {"messages": [AIMessage("", tool_calls=[call], response_metadata={"model_name": "minilm"})]}

    policy = Policy([Rule("moderate", "ask", when=UNSURE), Rule("moderate", "allow")])
    builder = StateGraph(MessagesState)
    builder.add_node("model", propose)
    builder.add_node("tools", ApprovalNode([moderate], policy=policy))
    builder.add_edge(START, "model")
    builder.add_edge("model", "tools")
    return builder.compile(checkpointer=checkpointer)


def answer(inbox: Inbox, votes: dict[str, list[str]], rng: random.Random, share: float) -> None:
    """People look at a part of what waits, each with the vote of one annotator."""
    waiting = inbox.pending(limit=10_000)
    for request in rng.sample(waiting, round(share * len(waiting))):
        assert request.action is not None
        args = request.action.args
        order = random.Random(str(args["post"])).sample(votes[str(args["post"])], len(votes[str(args["post"])]))
        for number, said in enumerate([*order, *order]):
            decision = approve() if said == args["label"] else edit({**args, "label": said})
            done = inbox.decide(request.id, decision, reviewer=f"annotator-{number}")
            if done.state != "pending":
                break


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--posts", type=int, default=3000)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "hitl-graph-learning")
    asked = parser.parse_args()
    found = proposals(asked.labels, asked.cache, asked.posts)
    proposed = {post: (label, score) for post, label, score, _ in found}
    votes = {post: said for post, _, _, said in found}
    rng, started, part = random.Random(0), time.monotonic(), max(1, len(found) // 10)
    print("| posts | asked | alone | audits | alone and not as one of the people says | decided alone from |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, SqliteCheckpointer(Path(folder) / "posts.db") as checkpointer:
        graph, inbox = build(checkpointer, proposed), Inbox(checkpointer.ledger)
        log = DecisionLog(checkpointer.ledger)
        worker = Worker(graph, checkpointer.ledger)
        posts = list(proposed)
        for begin in range(0, len(posts), part):
            now = posts[begin : begin + part]
            routes: dict[str, str] = {}
            for number, post in enumerate(now):
                graph.invoke({"messages": [("user", post)]}, {"configurable": {"thread_id": post}})
                if number % 50 == 49:
                    answer(inbox, votes, rng, 0.7)
                    worker.run_once()
                    log.update(UNSURE)
            for example in log.examples():
                routes[example.thread_id] = example.route
            alone = [post for post in now if routes[post] != "unsure"]
            missed = sum(1 - votes[post].count(proposed[post][0]) / len(votes[post]) for post in alone)
            result = log.update(UNSURE)
            limit = f"{result.threshold:.3f}" if isinstance(result, Certificate) else "-"
            audits = sum(routes[post] == "audit" for post in now)
            share = f"{missed / len(alone):.3f}" if alone else "-"
            print(
                f"| {begin + len(now)} | {len(now) - len(alone)} | {len(alone)} | {audits} | {share} | {limit} |",
                flush=True,
            )
        health = log.health(UNSURE)
        print(f"\n{health.standing}: {health.why}; agreement {health.agreement}, dissent {health.dissent}")
        print(f"the log is intact: {checkpointer.ledger.verify_audit().ok}")
    print(f"{time.monotonic() - started:.0f} s for {len(found)} posts")


if __name__ == "__main__":
    main()
