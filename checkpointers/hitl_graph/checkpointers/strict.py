"""Strict deserialisation that still knows the types of a graph's state."""

__all__ = ["derive_allow_lists"]


def derive_allow_lists() -> None:
    """Have `compile` tell checkpointers which types a graph's schema names.

    LangGraph has this behind LANGGRAPH_STRICT_MSGPACK, which it reads once, at import. Without it, a strict serializer
    would give the user's own state types back as dicts. It changes nothing for serializers that are not strict.
    """
    try:
        from langgraph._internal import _serde
    except ImportError:
        return
    flag = "STRICT_MSGPACK_ENABLED"  # not exported, hence the detour
    setattr(_serde, flag, True)
