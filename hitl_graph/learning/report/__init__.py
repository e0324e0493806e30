"""How it goes with what is decided without asking: for whoever is on call, and as a page with plots.

`overview` tells from the database alone; `read` takes everything that a report is made of, and `page` makes it.
"""

from hitl_graph.learning.report.pages import page
from hitl_graph.learning.report.reading import Record, read
from hitl_graph.learning.standing import Overview, overview

__all__ = ["Overview", "Record", "overview", "page", "read"]
