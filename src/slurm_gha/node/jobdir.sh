# shellcheck shell=bash disable=SC2034 # the files make one script, and share their variables
# The private directory of one runner: made, locked, removed; and those that killed scripts have left behind.

SG_JOB_DIR=
SG_LOCK=
# Seconds after which a directory without a lock file counts as left behind: its script was killed at its start.
readonly SG_UNLOCKED_AGE=60
readonly SG_GUARD_PATIENCE=30 # seconds

make_job_dir() {
  local dir status=0
  if [[ ! -d $SG_NODE_DIR || ! -w $SG_NODE_DIR ]]; then
    fail "$SG_EXIT_JOB_DIR" "node_dir $SG_NODE_DIR is not a directory on node $SG_NODE that this user can write to"
  fi
  # /proc tells real paths, and processes are known by them.
  SG_NODE_DIR=$(cd -P -- "$SG_NODE_DIR" && pwd)
  dir=$SG_NODE_DIR/sg-$SG_SLURM_ID
  # A Slurm job has only one script at a time: what carries its number, and is not locked, is of an earlier start.
  sweep_one "$dir" now
  await_guard "$dir"
  protected mkdir -- "$dir" 2>/dev/null ||
    fail "$SG_EXIT_JOB_DIR" "cannot make $dir on node $SG_NODE: it exists, or the disk is full"
  SG_JOB_DIR=$dir
  # The lock file comes into being locked: the sweeper of another script that starts now would take a free one.
  exec {SG_LOCK}>"$dir/lock.new"
  protected flock -n "$SG_LOCK" || status=$?
  [[ $status -ne 0 ]] || protected mv -- "$dir/lock.new" "$dir/lock" || status=1
  if [[ $status -eq 1 || ! $dir/lock -ef /proc/self/fd/$SG_LOCK ]]; then
    SG_JOB_DIR=
    fail "$SG_EXIT_JOB_DIR" "another process took the lock of $dir"
  fi
  [[ $status -eq 0 ]] || fail "$SG_EXIT_JOB_DIR" "flock failed on $dir/lock with exit code $status"
  mkdir -- "$dir/tmp" "$dir/run"
}

# await_guard DIRECTORY: the guard of an earlier start may just be removing it, and says so in it.
await_guard() {
  local began=$SECONDS
  while [[ -d $1 && -O $1 ]]; do
    ((SECONDS - began < 2)) || { [[ -e $1/ending ]] && ((SECONDS - began < SG_GUARD_PATIENCE)); } || return 0
    sleep 0.2 || true
    sweep_one "$1" now
  done
}

# sweep: remove what scripts of this user have left behind that could not clean up after themselves.
sweep() {
  local dir
  shopt -s nullglob
  for dir in "$SG_NODE_DIR"/sg-*; do
    [[ ${dir##*/sg-} =~ ^[0-9]+$ && $dir != "$SG_JOB_DIR" ]] || continue
    sweep_one "$dir"
  done
}

# sweep_one DIRECTORY [now]: remove it, and processes in it, unless a live script holds its lock.
sweep_one() {
  local dir=$1 lock='' changed
  [[ -d $dir && ! -L $dir && -O $dir ]] || return 0
  if [[ -f $dir/lock && ! -L $dir/lock ]]; then
    { exec {lock}<"$dir/lock"; } 2>/dev/null || return 0
    if ! flock -n "$lock" || [[ ! $dir/lock -ef /proc/self/fd/$lock ]]; then
      exec {lock}<&-
      return 0
    fi
  elif [[ ${2:-} != now ]]; then
    changed=$(stat -c %Y -- "$dir" 2>/dev/null) || return 0
    (($(date +%s) - changed > SG_UNLOCKED_AGE)) || return 0
  fi
  say "removing $dir, left behind by an earlier Slurm job"
  end_processes_in "$dir"
  remove_tree "$dir"
  [[ -z $lock ]] || exec {lock}<&-
}

# remove_tree DIRECTORY: read-only parts too, such as a Go module cache, and what belongs to the user's subordinate ids.
remove_tree() {
  rm -rf --one-file-system -- "$1" 2>/dev/null && return 0
  as_mapped_root rm -rf --one-file-system -- "$1" 2>/dev/null && return 0
  chmod -R u+rwX -- "$1" 2>/dev/null || true
  rm -rf --one-file-system -- "$1" 2>/dev/null && return 0
  say "could not remove all of $1 on node ${SG_NODE:-?}"
}

# as_mapped_root COMMAND...: as root of a user namespace in which the user's subordinate ids are mapped.
as_mapped_root() {
  unshare --user --map-root-user --map-auto -- "$@" 2>/dev/null && return 0
  command -v rootlesskit >/dev/null && rootlesskit "$@"
}
