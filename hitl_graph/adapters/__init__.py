"""The same guarantees for agents, clients and servers that were built another way."""

__all__: list[str] = []
