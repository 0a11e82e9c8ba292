#!/usr/bin/env bash
# Asks a model one question through the gateway: ./ai.sh, or ./ai.sh stream. The answer goes to standard output, what
# curl tells about the exchange to standard error. Ends with 0 only if the answer is a complete one.
#
#   PROMPT       what to ask
#   MODEL_NAME   static
#   GATEWAY_URL  http://127.0.0.1:8081
#   GATEWAY_KEY  one of the gateway's API_KEYS, if it has any
set -euo pipefail

url=${GATEWAY_URL:-http://127.0.0.1:8081}
model=${MODEL_NAME:-static}
prompt=${PROMPT:-Say hello.}

fail() {
  echo "ai.sh: $1" >&2
  exit "${2:-1}"
}

case ${1:-} in
  '') stream=false ;;
  stream) stream=true ;;
  *) fail "usage: ./ai.sh [stream]" 2 ;;
esac
command -v jo >/dev/null || fail "jo is missing: install it (apt-get install jo, brew install jo, or dnf install jo)" 6
command -v curl >/dev/null || fail "curl is missing: install it (apt-get install curl, brew install curl, or dnf install curl)" 6

directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT

# -s and --: a prompt is a string even if it is `true`, a number, or begins with @ or -.
jo model="$model" stream="$stream" "messages[]=$(jo -- -s role=user -s content="$prompt")" >"$directory/body"
