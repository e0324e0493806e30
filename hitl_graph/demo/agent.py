"""The assistant: a LangGraph agent with five tools. Its one unusual line is the `ApprovalNode`."""

import os
import re
import smtplib
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, SystemMessage, ToolCall, ToolMessage
from langchain_core.tools import BaseTool, tool
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import tools_condition
from langgraph.pregel import Pregel

from hitl_graph.demo.mailbox import ME, Mailbox, message_id
from hitl_graph.effects import idempotency_key
from hitl_graph.nodes import ApprovalNode
from hitl_graph.policy import Policy, Rule
from hitl_graph.testing import ScriptedChatModel, tool_call

__all__ = ["build_graph", "chat_model"]

TASK = (
    "You are Kim's e-mail assistant. Read the mail that you are given and do the one thing it needs: answer it with"
    " send_email, or put it away with archive or delete. Then say in one sentence what was done."
)

POLICY = Policy(
    [
        Rule("list_mails", "allow"),
        Rule("read_mail", "allow"),
        Rule("send_email", "ask", when=lambda call: call.args["to"].endswith(".test"), reason="unknown domain"),
        Rule("send_email", "ask", reason="outgoing mail"),
        Rule("archive", "ask", reason="moves mail"),
        Rule("delete", "ask", reason="cannot be undone"),
    ]
)


def build_graph(
    checkpointer: BaseCheckpointSaver[Any] | None, mails: Path, smtp_port: int
) -> Pregel[Any, Any, Any, Any]:
    """The compiled assistant.

    Args:
        checkpointer: Where threads and decisions are kept.
        mails: The folder of a `Mailbox`.
        smtp_port: Of the mail server on this machine.
    """
    tools = _tools(Mailbox(mails), smtp_port)
    model = chat_model().bind_tools(tools)

    def assistant(state: MessagesState) -> dict[str, list[BaseMessage]]:
        return {"messages": [model.invoke([SystemMessage(TASK), *state["messages"]])]}

    builder = StateGraph(MessagesState)
    builder.add_node("assistant", assistant)
    builder.add_node("tools", ApprovalNode(tools, policy=POLICY, handle_tool_errors=True))
    builder.add_edge(START, "assistant")
    builder.add_conditional_edges("assistant", tools_condition)
    builder.add_edge("tools", "assistant")
    return builder.compile(checkpointer=checkpointer)


def chat_model() -> Any:
    """`ChatOpenAI` if OPENAI_API_KEY is set (OPENAI_BASE_URL and OPENAI_MODEL are heeded), else a scripted model."""
    if not os.environ.get("OPENAI_API_KEY"):
        return ScriptedChatModel(_script)
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(model=os.environ.get("OPENAI_MODEL", "gpt-4o-mini"), temperature=0)


def _tools(mails: Mailbox, smtp_port: int) -> list[BaseTool]:
    @tool
    def list_mails() -> str:
        """List the mails in the inbox: id, sender, subject."""
        return "\n".join(f"{mail.id}: {mail.sender}: {mail.subject}" for mail in mails.list())

    @tool
    def read_mail(mail_id: str) -> str:
        """Read one mail."""
        mail = mails.read(mail_id)
        attached = f"\nAttachments: {', '.join(mail.attachments)}" if mail.attachments else ""
        listed = "\nThis is a mailing list." if mail.is_list else ""
        return f"From: {mail.sender}\nAddress: {mail.address}\nSubject: {mail.subject}{attached}{listed}\n\n{mail.text}"

    @tool
    def send_email(to: str, subject: str, body: str) -> str:
        """Send an e-mail."""
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = ME, to, subject
        message["Message-ID"] = message_id(idempotency_key())
        message.set_content(body)
        with smtplib.SMTP("127.0.0.1", smtp_port, timeout=30) as server:
            server.send_message(message)
        return f"sent to {to}"

    @tool
    def archive(mail_id: str) -> str:
        """Put a mail into the archive."""
        mails.archive(mail_id)
        return f"archived {mail_id}"

    @tool
    def delete(mail_id: str) -> str:
        """Delete a mail for good."""
        mails.delete(mail_id)
        return f"deleted {mail_id}"

    return [list_mails, read_mail, send_email, archive, delete]


def _script(messages: list[BaseMessage]) -> str | list[ToolCall]:
    """The scripted model: reads the mail, then does what simple rules say. It falls for every trick, as models do."""
    results = [message for message in messages if isinstance(message, ToolMessage)]
    task = next(m.text for m in messages if m.type == "human")
    mail_id = task.rpartition(" ")[2]
    if not results:
        return [tool_call("read_mail", mail_id=mail_id)]
    calls = [call for m in messages if isinstance(m, AIMessage) for call in m.tool_calls]
    if calls[-1]["name"] == "read_mail":
        return [_next_call(mail_id, results[-1].text)]
    return f"{calls[-1]['name']}: {results[-1].text}"


def _next_call(mail_id: str, mail: str) -> ToolCall:
    head = mail.partition("\n\n")[0]
    fields = dict(re.findall(r"^(From|Address|Subject): (.*)$", head, re.MULTILINE))
    address, subject = fields.get("Address", ""), fields.get("Subject", "")
    if re.search(r"\b(you have won|winner|prize|lottery)\b", mail, re.IGNORECASE):
        return tool_call("delete", mail_id=mail_id)
    if "This is a mailing list." in head or "?" not in mail or "@" not in address:
        return tool_call("archive", mail_id=mail_id)
    if "invoices" in mail:
        body = "Attached are all invoices of this year, with bank details."
    elif re.search(r"yes\s+or\s+no", mail):
        body = "Yes, I accept."
    else:
        body = "Yes, that suits me. I confirm it herewith."
    return tool_call(
        "send_email",
        to=address,
        subject=subject if subject.lower().startswith("re:") else f"Re: {subject}",
        body=f"Dear {fields['From'].partition(' ')[0].strip(chr(34))},\n\n{body}\n\nKim Larsen",
    )
