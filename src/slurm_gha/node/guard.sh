# shellcheck shell=bash disable=SC2034 # the files make one script, and share their variables
# A guard outside of the script's process tree: should the script be killed, it cleans up in its place. Where Slurm tracks
# processes by cgroups the guard is killed as well; then the next job's sweep or the Epilog does it.

SG_GUARD=

start_guard() {
  # The subshell between makes it an orphan, which is no descendant of slurmstepd's any more.
  SG_GUARD=$(
    set -m
    guard </dev/null >/dev/null &
    printf '%s' "$!"
  )
}

# guard: the lock is free as soon as the script is gone, however it went.
guard() {
  local lock=''
  ignore_signals
  trap - EXIT
  exec {SG_LOCK}>&-
  SG_SELF=$BASHPID SG_GUARD=
  cd /
  { exec {lock}<"$SG_JOB_DIR/lock"; } 2>/dev/null || exit 0
  flock "$lock" || exit 0
  [[ $SG_JOB_DIR/lock -ef /proc/self/fd/$lock ]] || exit 0
  : >"$SG_JOB_DIR/ending" || true
  say "the script of Slurm job $SG_SLURM_ID was killed; cleaning up after it"
  launcher_stop
  # Not by the number of the Slurm job: a new start of it may have begun.
  end_repeatedly "$SG_JOB_DIR" "SLURM_GHA_START=$SLURM_GHA_START"
  launcher_clean
  remove_tree "$SG_JOB_DIR"
  exit 0
}

end_guard() {
  local tries=0
  [[ -n $SG_GUARD ]] || return 0
  # It is no child of ours, so its end cannot be waited for.
  while kill -KILL -- "-$SG_GUARD" 2>/dev/null && ((tries++ < 50)); do
    sleep 0.02 || true
  done
}
