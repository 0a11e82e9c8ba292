#!/usr/bin/env bash
# Starts a gateway, management and one node on this machine; Ctrl-C stops them. Needs Python >= 3.11 and nothing else.
# The first run makes .venv and installs what is pinned in requirements/. ./start.sh --help tells the rest.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")"
scripts/environment runtime
exec .venv/bin/python -m fleet start "$@"
