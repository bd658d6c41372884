#!/usr/bin/env bash
# Pins everything that development, tests and the demo need: pyproject.toml in, requirements-dev.txt out.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

compiled=$(mktemp)
trap 'rm -f "$compiled"' EXIT
.venv/bin/pip-compile --quiet --extra dev --extra testing --strip-extras --allow-unsafe --no-header --no-annotate \
  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options "$@" \
  --output-file "$compiled" pyproject.toml

{
  echo '# Everything that development, tests and the demo need, pinned. Made by "make lock"; see pyproject.toml.'
  # The project asks for its own "testing" extra; it is installed from the working tree.
  grep -E '^[A-Za-z0-9._-]+==' "$compiled" | grep -vE '^(slurm-gha|pip)=='
} >requirements-dev.txt
