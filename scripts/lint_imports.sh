#!/usr/bin/env bash
# Check the arrows between the modules ([tool.importlinter] in pyproject.toml).
# import-linter follows one directory per package, so it is shown the three source roots as the wheel has them: merged.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$PWD/.venv/bin
merged=$(mktemp -d)
trap 'rm -rf "$merged"' EXIT
for root in . nodes checkpointers; do
    cp -r "$root/hitl_graph" "$merged/"
done
cp pyproject.toml "$merged/"
cd "$merged"
PYTHONPATH=$merged "$bin/python" -P "$bin/lint-imports" --no-cache
