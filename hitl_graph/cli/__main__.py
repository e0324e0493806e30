"""`python -m hitl_graph.cli`."""

import sys

from hitl_graph.cli import main

if __name__ == "__main__":
    sys.exit(main())
