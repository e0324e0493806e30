"""A form from a JSON Schema: fields for people, and back from what they typed to JSON with the schema's types. No I/O.

What is not touched keeps its exact value: a text that looks like a number, a number of forty digits, null, and what was
not given at all. What a form cannot show as it is (deep, of several types, with hidden characters) is a JSON text.
"""

from hitl_graph.form.fields import MISSING, Field, Option, Presence
from hitl_graph.form.forms import Filled, Form
from hitl_graph.form.values import parse_json

__all__ = ["MISSING", "Field", "Filled", "Form", "Option", "Presence", "parse_json"]
