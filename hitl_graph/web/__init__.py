"""The inbox as a web page and a REST API: one ASGI application, alone (`hitl serve`) or mounted into another one."""

from hitl_graph.web.app import create_app

__all__ = ["create_app"]
