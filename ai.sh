#!/usr/bin/env bash
# Asks a model one question through the gateway: ./ai.sh, or ./ai.sh stream. The answer goes to standard output, what
# curl tells about the exchange to standard error. Ends with 0 only if the answer is a complete one.
#
#   PROMPT       what to ask
#   MODEL_NAME   static
#   GATEWAY_URL  http://127.0.0.1:8081; one with https is trusted as curl does: CURL_CA_BUNDLE=file.pem for an authority
#                of your own, or for the gateway's own certificate
#   GATEWAY_KEY  one of the gateway's API_KEYS, if it has any
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

url=${GATEWAY_URL:-http://127.0.0.1:8081}
key=${GATEWAY_KEY:-}

fail() {
  echo "ai.sh: $1" >&2
  exit "${2:-1}"
}

need() {
  command -v "$1" >/dev/null || fail "$1 is missing: install it (apt-get install $1, brew install $1 or dnf install $1)" 6
}

case ${1:-} in
  '') stream=false ;;
  stream) stream=true ;;
  *) fail "usage: ./ai.sh [stream]" 2 ;;
esac
need jo
need curl
python=$here/.venv/bin/python
[[ -x $python ]] || python=python3

kept=$(mktemp -d)
trap 'rm -rf "$kept"' EXIT

# jo takes words from files as they are; given as words, `true` would be a boolean and a leading @ a file's name.
printf '%s' "${MODEL_NAME:-static}" >"$kept/model"
printf '%s' "${PROMPT:-Say hello.}" >"$kept/prompt"
jo model=@"$kept/model" stream="$stream" "messages[]=$(jo role=user content=@"$kept/prompt")" >"$kept/request"

# The key goes through a pipe, so that no list of processes shows it; and curl -v, which shows it, is filtered.
ask() {
  local options=(-v -sS --connect-timeout 10 --dump-header "$kept/head" -H 'Content-Type: application/json' -H @-)
  [[ $stream == false ]] || options+=(-N)
  printf '%s' "${key:+Authorization: Bearer $key}" |
    curl "${options[@]}" --data-binary @"$kept/request" "${url%/}/v1/chat/completions"
}

without_key() {
  local line
  while IFS= read -r line || [[ -n $line ]]; do
    [[ -z $key ]] || line=${line//"$key"/***}
    printf '%s\n' "$line"
  done
}

: >"$kept/head"
{ { ask | tee "$kept/answer" >&3; } 2>&1 | without_key >&2; } 3>&1 || fail "there was no whole answer from $url: does the gateway run (./start.sh)? GATEWAY_URL names another one"
"$python" "$here/scripts/complete_answer.py" "$stream" "$kept/head" "$kept/answer"
