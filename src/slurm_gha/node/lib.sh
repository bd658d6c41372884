# shellcheck shell=bash disable=SC2034 # the files make one script, and share their variables
# Words to the outside, and time.

# Exit codes of the batch script, beside 0 (the runner finished, or nobody needs it) and those of signals.
readonly SG_EXIT_VERSION=7      # GitHub no longer accepts the runner's version
readonly SG_EXIT_USAGE=64       # not a Slurm job, or a broken script
readonly SG_EXIT_NO_INPUT=66    # no configuration on standard input
readonly SG_EXIT_UNREACHABLE=69 # the service did not answer
readonly SG_EXIT_NODE=70        # the node lacks a command
readonly SG_EXIT_RUNNER=71      # the runner failed
readonly SG_EXIT_JOB_DIR=72     # the job directory cannot be made
readonly SG_EXIT_REFUSED=77     # the service refused the claim
readonly SG_EXIT_RUNNER_DIR=78  # runner_dir is not usable
readonly SG_EXIT_TIME_LIMIT=124 # Slurm warned of the time limit, and the runner was told to end

SG_LAST_WORDS=

# say TEXT: one line to the Slurm job's output.
say() {
  printf 'slurm-gha: %s\n' "$*" >&2 || true
}

# fail CODE TEXT: end with one line that tells why.
fail() {
  local code=$1 text=$2
  if [[ -n ${SG_STOPPED_BY:-} ]]; then
    # Whatever went wrong after a signal went wrong because of it: commands get their own.
    signal_status
    code=$SG_SIGNAL_STATUS text="stopped by SIG$SG_STOPPED_BY before the runner was started"
  fi
  SG_LAST_WORDS=$text
  say "$text"
  exit "$code"
}

# now: milliseconds, into SG_NOW.
now() {
  if [[ -n ${EPOCHREALTIME:-} ]]; then # from bash 5 on; the decimal mark depends on the locale
    SG_NOW=${EPOCHREALTIME/[.,]/}
    SG_NOW=${SG_NOW%???}
  else
    SG_NOW=$(date +%s%3N) || SG_NOW=$((SECONDS * 1000))
  fi
}

# end_helper PID: kill one of our own background processes, without a word about it.
end_helper() {
  [[ -n $1 ]] || return 0
  kill -KILL "$1" 2>/dev/null || true
  wait "$1" 2>/dev/null || true
}

# await_end PID MILLISECONDS: whether our child PID ends in that time.
await_end() {
  local until
  now
  until=$((SG_NOW + $2))
  while kill -0 "$1" 2>/dev/null; do
    now
    ((SG_NOW < until)) || return 1
    sleep 0.05 || true
  done
}
