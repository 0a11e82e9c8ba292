#!/usr/bin/env bash
# Prepares this machine for a local model: finds the device, gets the model, tries one prompt, and writes .env.local,
# which start.sh picks up. ./local.sh --tiny makes a tiny model with random weights, for machines without a hub.
# Needs Python >= 3.11. ./local.sh --help tells the rest.
set -euo pipefail
# A path is meant from where this is called.
arguments=()
for argument; do
  [[ $argument == [-/]* || ! -e $argument ]] || argument=$PWD/$argument
  arguments+=("$argument")
done
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")"
scripts/environment runtime
exec .venv/bin/python -m fleet local ${arguments[@]+"${arguments[@]}"}
