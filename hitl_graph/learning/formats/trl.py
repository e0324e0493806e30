"""What the trainers of TRL take: conversational datasets, one row a decision. No I/O.

https://huggingface.co/docs/trl/dataset_formats. Arguments of calls are objects, as chat templates want them; `datasets`
from 4.7 on reads them so even if each tool has others. Trainers leave `id` alone.
"""

from typing import Any

from hitl_graph.learning.examples import Example
from hitl_graph.learning.formats.chat import Unusable, answer, prompt
from hitl_graph.learning.formats.right import best, decided
from hitl_graph.model import canonical

__all__ = ["dpo", "kto", "sft"]


def sft(example: Example) -> dict[str, Any]:
    """Prompt and completion: what people said is right.

    Raises:
        Unusable: They did not say, or the model's input is not known.
    """
    completion = answer(example.tool, best(example))
    return {"id": example.id, "prompt": prompt(example.input), "completion": [completion]}


def dpo(example: Example) -> dict[str, Any]:
    """Prompt, chosen and rejected: what people said is right, and what the model had proposed.

    Raises:
        Unusable: There are no two to compare, or the model's input is not known.
    """
    chosen = best(example)
    if canonical(chosen) == canonical(example.output):
        raise Unusable("approved as it was: nothing to compare it with")
    pair = {"chosen": [answer(example.tool, chosen)], "rejected": [answer(example.tool, example.output)]}
    return {"id": example.id, "prompt": prompt(example.input), **pair}


def kto(example: Example) -> dict[str, Any]:
    """Prompt, completion and label: what the model proposed, and whether people found it right as it was.

    Raises:
        Unusable: Nobody said, or the model's input is not known.
    """
    decided(example)
    completion = answer(example.tool, example.output)
    return {"id": example.id, "prompt": prompt(example.input), "completion": [completion], "label": not example.wrong}
