"""Make the pictures of the inbox in the README and the docs: `python scripts/capture.py` with a Chromium at hand.

Real agents pause, the real inbox is served, a real browser looks at it and decides: docs/inbox-*.png, docs/inbox.gif.
"""

import io
import operator
import sys
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import tools_condition
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from hitl_graph.checkpointers import SqliteCheckpointer
from hitl_graph.inbox import Inbox
from hitl_graph.model import respond
from hitl_graph.nodes import ApprovalNode, OutputReviewNode, ask_human
from hitl_graph.nodes.revisions import Revision
from hitl_graph.policy import Policy, Rule
from hitl_graph.reviewers import Reviewer, StaticDirectory
from hitl_graph.testing import tool_call
from hitl_graph.web import create_app
from hitl_graph.web.visitors import TrustedProxy
from hitl_graph.worker import Worker

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.browser import ARGUMENTS, CHROMIUM
from tests.web.conftest import serving

DOCS = Path(__file__).parent.parent / "docs"
WIDE, STEP = {"width": 1200, "height": 760}, 1300
"""Of the window, in pixels; and how long a frame is shown, in milliseconds."""


@tool
def send_email(to: str, subject: str, body: str) -> str:
    """Send an e-mail."""
    return f"sent to {to}"


@tool
def wire_transfer(recipient: str, iban: str, amount: float, currency: str = "EUR", reference: str = "") -> str:
    """Send money to somebody."""
    return f"paid {amount} {currency}"


@tool
def delete_records(table: str, older_than_days: int) -> str:
    """Delete old rows of a table for good."""
    return "deleted"


TOOLS = [send_email, wire_transfer, delete_records, ask_human()]
POLICY = Policy(
    [
        Rule("send_email", "ask", risk="low", reason="mail to somebody outside of the company"),
        Rule(
            "wire_transfer",
            "ask",
            risk="high",
            reviewers=["role:finance"],
            quorum=2,
            deadline=timedelta(hours=4),
            on_deadline="reject",
            reason="payments over 1,000 need two people of finance",
        ),
        Rule("delete_records", "ask", risk="medium", reviewers=["role:finance", "alice"], reason="cannot be undone"),
    ]
)
WORK: dict[str, tuple[str, list[Any]]] = {
    "support-4711": (
        "Mrs Weber asks where her order is. Look it up and write to her.",
        [tool_call("send_email", to="j.weber@example.com", subject="Your order 20931",
                   body="Dear Mrs Weber,\n\nyour parcel left our warehouse this morning and will reach you tomorrow.\n"
                        "\nKind regards\nThe support team")],
    ),
    "invoices-2026-11": (
        "Pay the invoices that are due this week.",
        [tool_call("wire_transfer", recipient="Acme Industrial Ltd", iban="DE89 3704 0044 0532 0130 00",
                   amount=12480.0, reference="Invoice 2026-1187")],
    ),
    "cleanup-nightly": (
        "The disk is nearly full. Make room.",
        [tool_call("delete_records", table="page_views", older_than_days=30)],
    ),
    "refund-88": (
        "May this customer send the lamp back?",
        [tool_call("ask_human", question="A customer wants her money back after 45 days. What shall I offer?",
                   why="the policy ends at 30 days", options=["All of it", "A voucher", "Nothing"])],
    ),
    "support-4698": (
        "Answer the partner about the meeting.",
        [tool_call("send_email", to="partner@example.org", subject="Thursday",
                   body="Thursday at 10 suits us. I have booked the small room.")],
    ),
}  # fmt: skip


def calling(state: MessagesState) -> dict[str, Any]:
    if any(isinstance(message, AIMessage) for message in state["messages"]):
        return {"messages": [AIMessage("Done.")]}
    return {"messages": [AIMessage("", tool_calls=WORK[str(state["messages"][0].id)][1])]}


class Writing(MessagesState):
    draft: str
    reviews: Annotated[list[Revision], operator.add]


DRAFTS = (
    "# November release\n\nWe are thrilled to announce the best release ever. It has **approvals** and a new inbox.\n"
    "\nUpdate now!",
    "# November release\n\nThis release brings **approvals** for tool calls and an inbox in the browser.\n"
    "\nUpdate with `pip install -U`; no migration by hand is needed.",
)


def write(state: Writing) -> dict[str, Any]:
    return {"draft": DRAFTS[min(len(state.get("reviews", [])), 1)]}


def seeded(checkpointer: SqliteCheckpointer) -> Any:
    """Agents of three kinds at their pauses; returns the one whose tools can be approved."""
    payments = StateGraph(MessagesState)
    payments.add_node("agent", calling)
    payments.add_node("tools", ApprovalNode(TOOLS, policy=POLICY))
    payments.add_edge(START, "agent")
    payments.add_conditional_edges("agent", tools_condition)
    payments.add_edge("tools", "agent")
    agent = payments.compile(checkpointer=checkpointer, name="office")

    news = StateGraph(Writing)
    news.add_node("write", write)
    news.add_node("review", OutputReviewNode("draft", revise="write", deliver=END))
    news.add_edge(START, "write")
    news.add_edge("write", "review")
    writer = news.compile(checkpointer=checkpointer, name="newsletter")

    writer.invoke({"messages": [], "draft": ""}, _thread("newsletter-11"))
    [first] = Inbox(checkpointer.ledger).pending(thread_id="newsletter-11")
    Inbox(checkpointer.ledger).decide(first.id, respond("Less shouting. Say how to update."), reviewer="bob")
    Worker(writer, checkpointer.ledger).run_once()
    for thread, (said, _) in WORK.items():
        agent.invoke({"messages": [HumanMessage(said, id=thread)]}, _thread(thread))
    return agent


def _thread(name: str) -> Any:
    return {"configurable": {"thread_id": name}}


def frames(page: Page, url: str) -> Iterator[bytes]:
    """A person looks at the list, opens a payment, reads it, and approves it."""
    page.goto(url)
    page.locator("#live-text").get_by_text("Live").wait_for()
    yield page.screenshot()
    for _ in range(3):
        page.keyboard.press("j")
    yield page.screenshot()
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Your answer").wait_for()
    yield page.screenshot()
    page.keyboard.press("a")
    yield page.screenshot()
    page.keyboard.press("Enter")
    page.get_by_text("Still needed").first.wait_for()
    yield page.screenshot()


def main() -> None:
    people = StaticDirectory([Reviewer("alice", roles=["finance"]), Reviewer("bob", roles=["finance"])])
    with (
        tempfile.TemporaryDirectory() as folder,
        SqliteCheckpointer(f"{folder}/agent.db", directory=people) as checkpointer,
        sync_playwright() as playwright,
    ):
        seeded(checkpointer)
        let_in = TrustedProxy(proxies=["127.0.0.1/32"], directory=people)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        with serving(create_app(checkpointer.ledger, authenticators=[let_in])) as url:
            headers = {"x-forwarded-user": "alice"}
            page = browser.new_context(viewport=WIDE, extra_http_headers=headers, color_scheme="light").new_page()
            shown = list(frames(page, url))
            (DOCS / "inbox-list.png").write_bytes(shown[0])
            (DOCS / "inbox-card.png").write_bytes(shown[2])
            dark = browser.new_context(viewport=WIDE, extra_http_headers=headers, color_scheme="dark").new_page()
            dark.goto(url)
            dark.screenshot(path=DOCS / "inbox-dark.png")
            browser.close()
    pictures = [Image.open(io.BytesIO(frame)).convert("P", palette=Image.Palette.ADAPTIVE) for frame in shown]
    pictures[0].save(
        DOCS / "inbox.gif", save_all=True, append_images=pictures[1:], duration=STEP, loop=0, optimize=True
    )


if __name__ == "__main__":
    main()
