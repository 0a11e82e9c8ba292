#!/usr/bin/env bash
# Asks a model one question through the gateway: ./ai.sh, or ./ai.sh stream. The answer goes to standard output, what
# curl tells about the exchange to standard error. Ends with 0 only if the answer is a complete one.
#
#   PROMPT       what to ask; - reads it from standard input, which is the way for long ones
#   MODEL_NAME   static
#   GATEWAY_URL  http://127.0.0.1:8081; one with https is trusted as curl does: CURL_CA_BUNDLE=file.pem for an authority
#                of your own, or for the gateway's own certificate
#   GATEWAY_KEY  a key of the gateway's, if it asks for one
#
# Exit codes: 0 a complete answer, 1 none, 2 a wrong argument or prompt, 6 a program is missing.
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")

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
  -h | --help) awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$here/ai.sh" && exit ;;
  *) fail "usage: ./ai.sh [stream]; ./ai.sh --help tells the rest" 2 ;;
esac
need jo
need curl
python=$here/.venv/bin/python
[[ -x $python ]] || { need python3 && python=python3; }

kept=$(mktemp -d)
trap 'rm -rf "$kept"' EXIT

# jo takes words from files as they are; given as words, `true` would be a boolean and a leading @ a file's name.
printf '%s' "${MODEL_NAME:-static}" >"$kept/model"
if [[ ${PROMPT:-} == - ]]; then cat; else printf '%s' "${PROMPT:-Say hello.}"; fi >"$kept/prompt"
# Texts end for jo where they hold a zero byte, as those in UTF-16 do behind their first letter.
(($(LC_ALL=C tr -d '\0' <"$kept/prompt" | wc -c) == $(wc -c <"$kept/prompt"))) ||
  fail "PROMPT holds a zero byte: it is a text in UTF-8" 2
{
  jo role=user content=@"$kept/prompt" >"$kept/message" &&
    jo model=@"$kept/model" stream="$stream" messages[]=:"$kept/message" >"$kept/request"
} 2>"$kept/why" || fail "PROMPT and MODEL_NAME cannot be sent, for they are not UTF-8" 2

# The key goes through a pipe, so that no list of processes shows it; and curl -v, which shows it, is filtered.
ask() {
  local options=(-v -sS --connect-timeout 10 --dump-header "$kept/head" -H 'Content-Type: application/json' -H @-)
  [[ $stream == false ]] || options+=(-N)
  # A proxy of the environment cannot reach this machine.
  options+=(--noproxy "127.0.0.1,localhost,::1,${no_proxy:-${NO_PROXY:-}}")
  printf '%s' "${key:+Authorization: Bearer $key}" |
    curl "${options[@]}" --data-binary @"$kept/request" "${url%/}/v1/chat/completions" || echo "$?" >"$kept/curl"
}

without_key() {
  local line
  while IFS= read -r line || [[ -n $line ]]; do
    [[ -z $key ]] || line=${line//"$key"/***}
    printf '%s\n' "$line"
  done
}

: >"$kept/head"
# In a process group of its own: whoever ends this script ends the request with it, and nothing is generated for nobody.
set -m
{ { ask | tee "$kept/answer" >&3; } 2>&1 | without_key >&2; } 3>&1 &
asking=$!
set +m
trap 'kill -- "-$asking" 2>/dev/null; exit 130' INT TERM HUP
wait "$asking" || fail "the answer was not read to its end"
if [[ -s $kept/curl ]]; then
  case $(cat "$kept/curl") in
    6 | 7 | 28) fail "$url cannot be reached: does the gateway run (./start.sh)? GATEWAY_URL names another one" ;;
    23) fail "the answer was not read to its end" ;;
    *) fail "there was no whole answer from $url: curl says above why" ;;
  esac
fi
"$python" "$here/scripts/complete_answer.py" "$stream" "$kept/head" "$kept/answer"
