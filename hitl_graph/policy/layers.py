"""Several policies over one another: managed > project > user. No I/O but for whether a file is there.

All rules count. Outcomes need nothing more, as deny > ask > allow holds across layers: an `allow` below never takes
an `ask` above away, and where both ask, both sets of people have to agree. What would loosen is left out or refused:
a deadline below that approves or lets others decide, and a mode that asks less.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING, Any

from hitl_graph.errors import PolicyError, PolicyFileError

if TYPE_CHECKING:
    from hitl_graph.policy.policy import Policy
    from hitl_graph.policy.verdict import Layer

__all__ = ["layered"]

_ABOVE = {"shadow": {"default", "dont-ask", "plan"}, "default": {"dont-ask", "plan"}}  # stricter than


def layered(
    managed: "Policy | str | PathLike[str] | None",
    project: "Policy | str | PathLike[str] | None",
    user: "Policy | str | PathLike[str] | None",
    read: "Callable[[str | PathLike[str]], Policy]",
) -> dict[str, Any]:
    """What the policy of all layers is made of."""
    rules, mode, limits = [], None, list[int]()
    layers: tuple[tuple[Layer, Policy | str | PathLike[str] | None], ...] = (
        ("managed", managed), ("project", project), ("user", user)
    )  # fmt: skip
    for layer, given in layers:
        policy = _read(layer, given, read)
        if policy is None:
            continue
        for rule in policy.rules:
            if rule.layer is not None:
                raise PolicyError(f"the {layer} layer has rules of layers itself ({rule.place}); layer plain policies")
            rules.append(replace(rule, layer=layer, optional=rule.optional or layer != "project"))
        mode = _mode(layer, mode, policy.mode)
        if policy.max_denials is not None:
            limits.append(policy.max_denials)
    if mode is None:
        raise PolicyError("Policy.layered() needs at least one layer")
    settings: dict[str, Any] = {"mode": mode} if mode != "default" else {}
    return {"rules": rules} | settings | ({"max_denials": min(limits)} if limits else {})


def _read(
    layer: str, given: "Policy | str | PathLike[str] | None", read: "Callable[[str | PathLike[str]], Policy]"
) -> "Policy | None":
    if not isinstance(given, str | PathLike):
        return given
    if layer == "project":
        return read(given)
    try:
        os.lstat(given)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        raise PolicyFileError([f"{os.fspath(given)}: the {layer} policy cannot be read: {exc.strerror}"]) from exc
    return read(given)


def _mode(layer: str, above: str | None, here: str) -> str:
    """The mode so far; the default of a layer says nothing against a stricter one."""
    if above is None or here in _ABOVE.get(above, ()):
        return here
    if here not in ("default", above):
        raise PolicyError(f"the {layer} layer sets mode {here!r}, and a layer above has {above!r}, which is stricter")
    return above
