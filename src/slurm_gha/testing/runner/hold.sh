#!/bin/bash
# Runs a step's shell, and ends only when that does no harm: act drops what it has not yet read of a failed step's
# output, and takes the end of a cancelled step for an ordinary failure unless it has heard of the cancellation first.
set -uo pipefail

base=${BASH_SOURCE[0]%.sh}
trap : INT TERM
"$@"
code=$?
if [[ $code -ne 0 ]] && mkfifo "$base.$$"; then
  exec {answer}<>"$base.$$" # open before asking, or the answer finds nobody
  printf 'stand-in-drained:%s\n' "$$"
  read -r -t 10 -u "$answer" || true
fi
if [[ -e $base.cancel ]]; then
  kill -STOP $$
fi
exit "$code"
