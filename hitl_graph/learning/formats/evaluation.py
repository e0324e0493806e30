"""Datasets to evaluate a model with: what it is given, and what people said is right. No I/O."""

import json
from typing import Any

from hitl_graph.learning.examples import Example
from hitl_graph.learning.formats.chat import answer, prompt, text
from hitl_graph.learning.formats.right import best, decided, finite

__all__ = ["langsmith", "openai_evals"]


def langsmith(example: Example) -> dict[str, Any]:
    """An example of a LangSmith dataset: inputs, outputs, metadata and split.

    Without outputs where people only said what is wrong; that stands in the metadata.

    Raises:
        Unusable: No person decided, or the model's input is not known.
    """
    decision = decided(example)
    right = example.better if example.right is None else example.right
    outputs = None if right is None else {"messages": [answer(example.tool, right)]}
    return {
        "inputs": {"messages": prompt(example.input)},
        "outputs": outputs,
        "metadata": {
            "request_id": example.id,
            "thread_id": example.thread_id,
            "kind": example.kind,
            "tool": example.tool,
            "decision": decision.type,
            "message": decision.message,
            "reviewer": example.reviewer,
            "reference": example.reference,
            "proposed": answer(example.tool, example.output),
            "model": example.model,
            "score": finite(example.score),
            "route": example.route,
            "propensity": example.propensity,
        },
        "split": example.split,
    }


def openai_evals(example: Example) -> dict[str, Any]:
    """A sample of the open-source `openai/evals`: input and ideal; of a call, its name and arguments as JSON.

    The hosted Evals API of OpenAI, which took other rows, is shut down on 30 November 2026.

    Raises:
        Unusable: Nothing right is known, or the model's input is not.
    """
    right = best(example)
    answer(example.tool, right)  # a call has arguments
    ideal = text(right) if example.tool is None else json.dumps({"name": example.tool, "arguments": right})
    return {"input": prompt(example.input), "ideal": ideal, "id": example.id, "split": example.split}
