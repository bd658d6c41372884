# shellcheck shell=bash disable=SC2034 # the files make one script, and share their variables
# Signals at any moment: recorded, and handed on to whatever is being waited for.
#
# bash runs a trap only between commands or while it waits, so everything that takes time is started in the
# background and attended.

SG_STOPPED_BY=
SG_DEADLINE=
SG_CHILD=
SG_CHILD_SIGNAL=
SG_CHILD_TOLD=0
SG_CHILD_TREE=()
SG_STATUS=0

watch_signals() {
  trap 'on_signal TERM' TERM
  trap 'on_signal TERM' HUP
  trap 'on_signal INT' INT
  trap 'on_signal USR1' USR1
  trap : USR2 # only interrupts a wait
  # Caught, not ignored: a reader that went away must not end us, and children get the default back.
  trap : PIPE
}

# ignore_signals: for helpers that have to outlast a signal sent to all processes of the job.
ignore_signals() {
  trap '' TERM HUP INT USR1 USR2 PIPE
}

on_signal() {
  local until
  now
  if [[ $1 == USR1 ]]; then
    until=$((SG_NOW + SG_STOP_AFTER_WARNING * 1000))
  else
    stop_after_cancel
    until=$((SG_NOW + SG_STOP_MILLISECONDS))
  fi
  if [[ -z $SG_DEADLINE ]] || ((until < SG_DEADLINE)); then
    SG_DEADLINE=$until
  fi
  SG_STOPPED_BY=${SG_STOPPED_BY:-$1}
  [[ -z $SG_JOB_DIR ]] || : >"$SG_JOB_DIR/stopped" || true
  tell_child
  # From a subshell: what runs here may come between a command in the background and the reading of its $!.
  (nudge >/dev/null 2>&1 &) || true
}

# nudge: a signal that comes just before a wait does not interrupt it, and the deadline would pass unseen.
nudge() {
  ignore_signals
  [[ -z $SG_LOCK ]] || exec {SG_LOCK}>&-
  [[ -z $SG_REPORTS ]] || exec {SG_REPORTS}>&-
  while sleep 0.5 && kill -USR2 "$$" 2>/dev/null; do :; done
}

# stop_after_cancel: how long the runner may take after TERM, into SG_STOP_MILLISECONDS. Slurm sends KILL after
# KillWait (slurm.conf(5), 30 s by default); a quarter of it is kept for cleaning up.
stop_after_cancel() {
  local file line limit=30
  for file in "${SLURM_CONF:-}" /etc/slurm/slurm.conf /run/slurm/conf/slurm.conf; do
    [[ -f $file && -r $file ]] || continue
    while IFS= read -r line || [[ -n $line ]]; do
      if [[ ${line,,} =~ ^[[:space:]]*killwait[[:space:]]*=[[:space:]]*([0-9]{1,5}) ]]; then
        limit=$((10#${BASH_REMATCH[1]}))
      fi
    done <"$file"
    break
  done
  SG_STOP_MILLISECONDS=$((limit * 750))
  if ((SG_STOP_MILLISECONDS > SG_STOP_AFTER_CANCEL * 1000)); then
    SG_STOP_MILLISECONDS=$((SG_STOP_AFTER_CANCEL * 1000))
  fi
}

# tell_child: once. Of scancel every process of the job has its own TERM already (Slurm signals the whole step), so
# that the runner's run.sh may end of the second signal before its listener does: remember who there was.
tell_child() {
  [[ -n $SG_CHILD ]] || return 0
  # In one command, since another signal may come in between.
  ((SG_CHILD_TOLD++ == 0)) || return 0
  descendants_of "$SG_CHILD"
  SG_CHILD_TREE=("${SG_FOUND[@]}")
  kill -s "$SG_CHILD_SIGNAL" "$SG_CHILD" 2>/dev/null || true
}

# attend PID SIGNAL: wait for our child, hand a request to stop on to it as SIGNAL, and kill it at the deadline.
# Its exit status goes into SG_STATUS.
attend() {
  local again=0
  SG_CHILD_TOLD=0 SG_CHILD_TREE=() SG_CHILD_SIGNAL=$2 SG_CHILD=$1
  # A signal may have come before the line above.
  [[ -z $SG_STOPPED_BY ]] || tell_child
  while :; do
    SG_STATUS=0
    wait "$SG_CHILD" 2>/dev/null || SG_STATUS=$?
    kill -0 "$SG_CHILD" 2>/dev/null || break
    [[ -z $SG_STOPPED_BY ]] || attend_until_deadline
  done
  # The first wait may have been broken off by the signal: bash still knows the real status.
  wait "$SG_CHILD" 2>/dev/null || again=$?
  [[ $again -eq 127 ]] || SG_STATUS=$again
  [[ -z $SG_STOPPED_BY ]] || outlast_tree
  SG_CHILD=
}

attend_until_deadline() {
  now
  while kill -0 "$SG_CHILD" 2>/dev/null; do
    if ((SG_NOW >= SG_DEADLINE)); then
      kill -KILL -- "-$SG_CHILD" 2>/dev/null || kill -KILL "$SG_CHILD" 2>/dev/null || true
      return 0
    fi
    sleep 0.05 || true
    now
  done
}

# outlast_tree: give what the child had started until the deadline.
outlast_tree() {
  local pid
  for pid in "${SG_CHILD_TREE[@]}"; do
    while parent_of "$pid" && [[ $SG_PROCESS_STATE != [ZX] ]]; do
      now
      ((SG_NOW < SG_DEADLINE)) || return 0
      sleep 0.05 || true
    done
  done
}

# end_if_stopped: to be called after each attend but the runner's.
end_if_stopped() {
  [[ -z $SG_STOPPED_BY ]] || fail 143 'stopped'
}

# protected COMMAND...: run it out of reach of a signal that is sent to all processes of the job.
protected() {
  (
    ignore_signals
    exec "$@"
  )
}

# signal_status: the exit code that tells of the signal, into SG_SIGNAL_STATUS.
signal_status() {
  case $SG_STOPPED_BY in
    USR1) SG_SIGNAL_STATUS=$SG_EXIT_TIME_LIMIT ;;
    INT) SG_SIGNAL_STATUS=130 ;;
    *) SG_SIGNAL_STATUS=143 ;;
  esac
}
