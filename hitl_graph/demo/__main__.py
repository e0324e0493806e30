"""`python -m hitl_graph.demo`: what `hitl demo` runs."""

import argparse
import sys
from pathlib import Path

from hitl_graph.demo import director


def main() -> int:
    """Read the options and run the demo."""
    parser = argparse.ArgumentParser(prog="python -m hitl_graph.demo", description=director.__doc__)
    parser.add_argument("--mailbox", type=Path, help="an mbox file, or a folder of .eml files")
    parser.add_argument("--db", type=Path, help="where to keep it; default: a new temporary file")
    parser.add_argument("--script", action=argparse.BooleanOptionalAction, help="answer by a script, or ask")
    options = parser.parse_args()
    return director.run(options.mailbox, options.db, options.script)


if __name__ == "__main__":
    sys.exit(main())
