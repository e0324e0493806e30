"""A local server that speaks OpenAI's chat completions, for tests with the real `ChatOpenAI`."""

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self

from langchain_core.messages import AIMessage, BaseMessage, convert_to_messages

from hitl_graph.testing.model import Fixed, Reply, check_tool_calls, render

__all__ = ["FakeOpenAI", "Fault"]

Fault = Literal["500", "cut"]


class FakeOpenAI:
    """Answers `POST /v1/chat/completions` by a script, plain or streamed, on a free loopback port.

    Refuses a conversation in which a tool call has no answer, as OpenAI does.

    Use it in `with`; give `base_url` to `ChatOpenAI(base_url=..., api_key="test")`.

    Args:
        script: As for `ScriptedChatModel`.
        faults: What goes wrong, by the number of the request (from 0): `"500"` answers with an error, `"cut"` breaks
            the connection in the middle of the answer.
    """

    def __init__(
        self,
        script: Sequence[Reply] | Callable[[list[BaseMessage]], Fixed],
        *,
        faults: dict[int, Fault] | None = None,
    ) -> None:
        self.script = script
        self.faults = faults or {}
        self.requests: list[dict[str, Any]] = []
        """The bodies of the requests, in order."""
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def base_url(self) -> str:
        """What `ChatOpenAI(base_url=...)` takes; within the `with`."""
        if self._server is None:
            raise RuntimeError("the server runs in `with FakeOpenAI(...) as fake:`")
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        server, self._server = self._server, None
        if server is not None and self._thread is not None:
            server.shutdown()
            server.server_close()
            self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"]))
                with suppress(ConnectionError):
                    if self.path != "/v1/chat/completions":
                        return _send(self, 404, _error(f"there is no {self.path} here, only /v1/chat/completions"))
                    try:
                        body = json.loads(data)
                    except ValueError as exc:
                        return _send(self, 400, _error(f"not JSON: {exc}"))
                    if not isinstance(body, dict) or not {"model", "messages"} <= body.keys():
                        return _send(self, 400, _error("the body needs model and messages"))
                    fake._answer(self, body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler

    def _answer(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        with self._lock:
            fault = self.faults.get(len(self.requests))
            self.requests.append(body)
        if fault == "500":
            return _send(handler, 500, _error("the server had an error", "server_error"))
        try:
            conversation = convert_to_messages(body["messages"])
            check_tool_calls(conversation)
            message = render(self.script, conversation)
        except Exception as exc:
            return _send(handler, 400, _error(str(exc)))
        base = {"id": f"chatcmpl-{message.id}", "created": int(time.time()), "model": body["model"]}
        if not body.get("stream"):
            whole = {
                **base,
                "object": "chat.completion",
                "choices": [{"index": 0, "message": _message(message), "finish_reason": _reason(message)}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            }
            return _send(handler, 200, whole, cut=fault == "cut")
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Connection", "close")
        handler.end_headers()
        deltas = list(_deltas(message))
        for delta, finish in deltas[: len(deltas) // 2] if fault == "cut" else deltas:
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            event = {**base, "object": "chat.completion.chunk", "choices": [choice]}
            handler.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
        if fault == "cut":
            return _break(handler)
        handler.wfile.write(b"data: [DONE]\n\n")
        handler.close_connection = True
        return None


def _error(message: str, kind: str = "invalid_request_error") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind}}


def _send(handler: BaseHTTPRequestHandler, status: int, body: dict[str, Any], *, cut: bool = False) -> None:
    data = json.dumps(body).encode()
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data[: len(data) // 2] if cut else data)
    if cut:
        _break(handler)


def _break(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.flush()  # a reset instead of an orderly end, so that the client cannot take it for the whole
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    handler.connection.close()


def _tool_calls(message: AIMessage) -> list[dict[str, Any]]:
    return [
        {
            "id": call["id"],
            "type": "function",
            "function": {"name": call["name"], "arguments": json.dumps(call["args"])},
        }
        for call in message.tool_calls
    ]


def _message(message: AIMessage) -> dict[str, Any]:
    plain: dict[str, Any] = {"role": "assistant", "content": message.text or None}
    return plain | ({"tool_calls": _tool_calls(message)} if message.tool_calls else {})


def _reason(message: AIMessage) -> str:
    return "tool_calls" if message.tool_calls else "stop"


def _deltas(message: AIMessage) -> Iterator[tuple[dict[str, Any], str | None]]:
    yield {"role": "assistant", "content": ""}, None
    for at in range(0, len(message.text), 8):
        yield {"content": message.text[at : at + 8]}, None
    for index, call in enumerate(_tool_calls(message)):
        arguments = call["function"]["arguments"]
        half = len(arguments) // 2
        first = {**call, "index": index, "function": {**call["function"], "arguments": arguments[:half]}}
        yield {"tool_calls": [first]}, None
        yield {"tool_calls": [{"index": index, "function": {"arguments": arguments[half:]}}]}, None
    yield {}, _reason(message)
