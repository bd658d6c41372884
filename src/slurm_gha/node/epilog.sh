# shellcheck shell=bash disable=SC2030,SC2031,SC2034,SC2329 # the files make one script, and share their variables
# Slurm's Epilog, run by root (or by SlurmdUser) on each node at the end of each job: ends and removes what the runner of that
# job has left behind, and nothing that lives.
#
# Everything in a job's directory is the job's own making, links and names with a meaning included. So root only looks at who
# owns the directory itself, and ends processes; all that walks through it runs as that user.

# Seconds that cleaning up after one job may take. What is left then is swept by the next one.
readonly SG_EPILOG_PATIENCE=300

SG_NODE=${SLURMD_NODENAME:-${HOSTNAME:-?}}
SG_SLURM_ID=
SG_CLUSTER=
SG_UID=
SG_RANGES=() # "first count" of the user's subordinate ids

epilog() {
  # Slurm drains a node whose Epilog fails: whatever happens here, the node stays in service.
  trap 'exit 0' EXIT
  umask 077
  PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin${SG_NODE_PATH:+:$SG_NODE_PATH}
  export PATH
  cd /
  SG_SLURM_ID=${SLURM_JOB_ID:-} SG_UID=${SLURM_JOB_UID:-${SLURM_UID:-}} SG_CLUSTER=${SLURM_CLUSTER_NAME:-}
  [[ $SG_SLURM_ID =~ ^[0-9]+$ && $SG_UID =~ ^[0-9]+$ ]] || fail 64 'SLURM_JOB_ID and SLURM_JOB_UID are not set: this is for Slurm'
  runs_runners || exit 0
  ((EUID == 0 || EUID == SG_UID)) || fail 77 "uid $EUID cannot clean up after jobs of uid $SG_UID: SlurmdUser has to be root"
  SG_NODE_DIR=$(cd -P -- "$SG_NODE_DIR" 2>/dev/null && pwd) || exit 0
  subordinate_ranges
  # Root first: what the job has left running, as the same user, could end those who clean up.
  if ((EUID == 0 && SG_UID != 0)); then end_as_root; fi
  clean_as_user
}

# runs_runners: whether the job's user is one whose jobs are runners; everybody else's are over with one comparison.
runs_runners() {
  local user
  for user in "${SG_USERS[@]}"; do
    [[ $user != "$SG_UID" ]] || return 0
    [[ $(id -u -- "$user" 2>/dev/null) != "$SG_UID" ]] || return 0
  done
  return 1
}

# subordinate_ranges: into SG_RANGES.
subordinate_ranges() {
  local user name first count
  SG_RANGES=()
  user=$(id -nu -- "$SG_UID" 2>/dev/null) || return 0
  if command -v getsubids >/dev/null; then
    # "0: user 100000 65536"
    while read -r _ _ first count; do
      add_range "$first" "$count"
    done < <(getsubids "$user" 2>/dev/null)
  elif [[ -r /etc/subuid ]]; then
    while IFS=: read -r name first count; do
      [[ $name != "$user" && $name != "$SG_UID" ]] || add_range "$first" "$count"
    done </etc/subuid
  fi
}

add_range() {
  [[ ! $1$2 =~ ^[0-9]+$ ]] || SG_RANGES+=("$1 $2")
}

# belongs UID: whether it is the user's, or one of the user's subordinate ids.
belongs() {
  local range first count
  [[ $1 =~ ^[0-9]+$ ]] || return 1
  [[ $1 != "$SG_UID" ]] || return 0
  for range in "${SG_RANGES[@]}"; do
    read -r first count <<<"$range"
    (($1 < first || $1 >= first + count)) || return 0
  done
  return 1
}

# end_as_root: the job's processes, one by one: a process group may hold another's.
end_as_root() (
  ours() { belongs "$(stat -c %u -- "/proc/$1" 2>/dev/null)"; }
  # Of the user's processes none is Slurm's own, whatever it calls itself.
  SG_STEP_DAEMON='longer than any name of a process' SG_ONE_BY_ONE=yes
  local directory=$SG_NODE_DIR/sg-$SG_SLURM_ID
  is_job_dir "$directory" || directory=
  end_repeatedly '' "SLURM_JOB_ID=$SG_SLURM_ID"
  if [[ -n $directory ]] && ! has_twin; then
    end_repeatedly "$directory" ''
    end_mounted_in "$directory"
  fi
)

# is_job_dir PATH: a directory, no link to one, of the job's user.
is_job_dir() {
  [[ $(stat -c '%u %F' -- "$1" 2>/dev/null) == "$SG_UID directory" ]]
}

# has_twin: whether another cluster has a job of the same number and user here, which has the same directory. The lock alone
# does not tell: anything that the job started may hold it.
has_twin() {
  local file pid
  while IFS= read -r file; do
    pid=${file#/proc/}
    pid=${pid%/environ}
    ours "$pid" && ! same_cluster "$pid" && return 0
  done < <(grep -lzsxF -e "SLURM_JOB_ID=$SG_SLURM_ID" /proc/[0-9]*/environ 2>/dev/null || true)
  return 1
}

# lock_is_held DIRECTORY
lock_is_held() {
  local lock='' status=0
  [[ -f $1/lock && ! -L $1/lock ]] || return 1
  { exec {lock}<"$1/lock"; } 2>/dev/null || return 1
  flock -n "$lock" || status=1
  exec {lock}<&-
  ((status != 0))
}

# end_mounted_in DIRECTORY: containers whose root is an overlay in it, and that run as one of the user's subordinate ids.
end_mounted_in() {
  local file pid
  while IFS= read -r file; do
    pid=${file#/proc/}
    pid=${pid%/mountinfo}
    [[ ! /proc/$pid/ns/mnt -ef /proc/self/ns/mnt ]] || continue
    end_process "$pid"
  done < <(grep -lsF -e "upperdir=$1/" /proc/[0-9]*/mountinfo 2>/dev/null || true)
}

# as_user SECONDS FUNCTION ARGUMENT...: run a function of this script as the job's user, in an environment of its own.
as_user() {
  local seconds=$1 gid
  local -a step_down=()
  shift
  if ((EUID != SG_UID)); then
    gid=$(id -g -- "$SG_UID" 2>/dev/null) || gid=$SG_UID
    step_down=(setpriv --reuid="$SG_UID" --regid="$gid" --inh-caps=-all --init-groups)
    id -nu -- "$SG_UID" >/dev/null 2>&1 || step_down[-1]=--clear-groups
    step_down+=(--)
  fi
  {
    declare -f
    declare -p SG_NODE_DIR SG_NODE SG_SLURM_ID SG_CLUSTER SG_UID SG_RANGES SG_UNLOCKED_AGE SG_STEP_DAEMON SG_ONE_BY_ONE
    printf 'SG_JOB_DIR= SG_GUARD= SG_RUNNER= SG_SELF=$$\numask 077\n'
    printf '%q ' "$@"
    # What else is in the pipe, nothing here may read.
    printf '</dev/null; exit\n'
  } | timeout --kill-after=5 "$seconds" "${step_down[@]}" env -i PATH="$PATH" HOME=/ LC_ALL=C bash -p -s
}

# clean_as_user: the rest, by the user.
clean_as_user() {
  local status=0
  as_user "$SG_EPILOG_PATIENCE" clean_up || status=$?
  if ((status == 124 || status == 137)); then
    say "cleaning up after job $SG_SLURM_ID took longer than $SG_EPILOG_PATIENCE s; the next runner's sweep goes on with it"
  fi
}

clean_up() {
  local directory=$SG_NODE_DIR/sg-$SG_SLURM_ID
  # The guard of a killed script is among them; its work is done here.
  end_repeatedly '' "SLURM_JOB_ID=$SG_SLURM_ID"
  if is_job_dir "$directory" && ! has_twin; then
    say "removing $directory, left behind by Slurm job $SG_SLURM_ID"
    end_processes_in "$directory"
    detach_mounts "$directory"
    remove_tree "$directory"
  fi
  sweep
  clean_shared_memory
}

# detach_mounts DIRECTORY: FUSE file systems, which outlive the program that served them.
detach_mounts() {
  local point
  while read -r _ _ _ _ point _; do
    # \040 and the like, as proc(5) says
    printf -v point '%b' "${point//\\/\\0}"
    [[ $point == "$1"/* ]] || continue
    fusermount3 -u -z -q -- "$point" 2>/dev/null || fusermount -u -z -q -- "$point" 2>/dev/null || true
  done </proc/self/mountinfo
}

# clean_shared_memory: nothing says which job made a file in /dev/shm, so only when no other job of the user is here.
clean_shared_memory() {
  local file range first count
  local -a whose=(-uid "$SG_UID") files=()
  for range in "${SG_RANGES[@]}"; do
    read -r first count <<<"$range"
    whose+=(-o '(' -uid "+$((first - 1))" -uid "-$((first + count))" ')')
  done
  while IFS= read -r -d '' file; do
    files+=("$file")
  done < <(find /dev/shm -mindepth 1 -maxdepth 1 '(' "${whose[@]}" ')' -print0 2>/dev/null)
  ((${#files[@]} > 0)) && ! others_live || return 0
  for file in "${files[@]}"; do
    # In use by a process that is in no job: a service of the same user.
    ! grep -qsF -e " $file" /proc/[0-9]*/maps 2>/dev/null || continue
    say "removing $(printf %q "$file"), left behind by job $SG_SLURM_ID"
    remove_tree "$file"
  done
}

# others_live: whether another job of the user runs on this node.
others_live() {
  local directory file pid
  shopt -s nullglob
  for directory in "$SG_NODE_DIR"/sg-*; do
    if is_job_dir "$directory" && lock_is_held "$directory"; then return 0; fi
  done
  while IFS= read -r file; do
    pid=${file#/proc/}
    pid=${pid%/environ}
    [[ -O /proc/$pid ]] || continue
    ! grep -qzsxF -e "SLURM_JOB_ID=$SG_SLURM_ID" "/proc/$pid/environ" || ! same_cluster "$pid" || continue
    parent_of "$pid" && [[ $SG_PROCESS_STATE != [ZX] ]] && return 0
  done < <(grep -lzs -e '^SLURM_JOB_ID=' /proc/[0-9]*/environ 2>/dev/null || true)
  return 1
}

epilog
