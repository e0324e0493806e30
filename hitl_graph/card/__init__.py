"""One look of a request for all doors: what will happen, what is to be known, who decides and what they may answer.

Plain data, no I/O. Nothing here is escaped: each door does that in its own way, and shows hidden characters as
`hitl_graph.visible` does.
"""

from hitl_graph.card.answers import Answer, answers_of
from hitl_graph.card.contents import Draft, Evidence, Feedback, Field, File, Question, Remark
from hitl_graph.card.look import Card, Event, Outcome, Ran, card, news, version
from hitl_graph.card.people import Claimed, Coming, Given, Mine, People, Said
from hitl_graph.card.precedents import Precedent, Precedents
from hitl_graph.card.words import age, asked, done, heading, label, left, meaning, what

__all__ = [
    "Answer",
    "Card",
    "Claimed",
    "Coming",
    "Draft",
    "Event",
    "Evidence",
    "Feedback",
    "Field",
    "File",
    "Given",
    "Mine",
    "Outcome",
    "People",
    "Precedent",
    "Precedents",
    "Question",
    "Ran",
    "Remark",
    "Said",
    "age",
    "answers_of",
    "asked",
    "card",
    "done",
    "heading",
    "label",
    "left",
    "meaning",
    "news",
    "version",
    "what",
]
