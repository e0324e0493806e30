"""The notebook as a door: `review` runs a graph to its pause and gives back what is asked, as a form and as code.

Nothing here waits for a person: a cell ends at once, and the kernel stays free.
"""

from hitl_graph.notebook.inboxes import InboxView, inbox_widget
from hitl_graph.notebook.reviewing import areview, review
from hitl_graph.notebook.run import Run

__all__ = ["InboxView", "Run", "areview", "inbox_widget", "review"]
