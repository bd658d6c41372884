#!/bin/bash
# Starts the listener, again while it says that a retry may help, and turns its exit code into the runner's.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)

if [[ $(id -u) -eq 0 && -z ${RUNNER_ALLOW_RUNASROOT:-} ]]; then
  echo 'Not as root: set RUNNER_ALLOW_RUNASROOT=1 if that is meant.' >&2
  exit 0
fi

# The listener's exit code as that of the whole: 0 for every end, but for a version that is refused (7), if asked for.
translate() {
  echo "The listener has ended with code $1."
  if [[ $1 -eq 7 && ${ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE:-} == 1 ]]; then
    exit 7
  fi
  exit 0
}

if [[ -z ${RUNNER_MANUALLY_TRAP_SIG:-} ]]; then
  while :; do
    code=0
    "$root/bin/Runner.Listener" run "$@" || code=$?
    [[ $code -eq 2 ]] || translate "$code"
    echo 'The listener starts again.'
    sleep 5
  done
fi

# A signal to this script becomes SIGINT to the listener, which then has its time to end.
set -m
listener=
trap '[[ -z $listener ]] || kill -INT "$listener" 2>/dev/null || true' INT TERM
while :; do
  "$root/bin/Runner.Listener" run "$@" &
  listener=$!
  code=0
  wait "$listener" || code=$?
  if [[ $code -gt 128 ]]; then
    trap - INT TERM
    wait "$listener" || true
    exit "$code"
  fi
  [[ $code -eq 2 ]] || translate "$code"
  echo 'The listener starts again.'
  sleep 5
done
