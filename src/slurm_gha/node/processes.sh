# shellcheck shell=bash disable=SC2034 # the files make one script, and share their variables
# Processes that must not outlive the runner, orphans included: found by their environment, directory or program.

# end_leftovers: kill all that this Slurm job has started, but for ourselves, our helpers and our ancestors.
end_leftovers() {
  end_repeatedly "$SG_JOB_DIR" "SLURM_JOB_ID=$SG_SLURM_ID"
}

# end_processes_in DIRECTORY
end_processes_in() {
  end_repeatedly "$1" ''
}

# end_repeatedly DIRECTORY VARIABLE: a process may start another just before it dies, so look until none is found, and
# kill at once what is found.
end_repeatedly() {
  local until
  now
  until=$((SG_NOW + 3000))
  while ((SG_NOW < until)); do
    end_found "$1" "$2"
    ((${#SG_FOUND[@]} > 0)) || return 0
    now
  done
  say "processes are left that cannot be killed: ${SG_FOUND[*]}"
}

# end_found DIRECTORY VARIABLE: kill what is in the directory, or has NAME=VALUE in its environment; process ids into SG_FOUND.
end_found() {
  local directory=$1 variable=$2 file line pid
  SG_FOUND=()
  if [[ -n $variable ]]; then
    while IFS= read -r file; do
      pid=${file#/proc/}
      pid=${pid%/environ}
      same_cluster "$pid" || continue
      end_process "$pid"
    done < <(grep -lzsxF -e "$variable" /proc/[0-9]*/environ 2>/dev/null || true)
  fi
  if [[ -n $directory ]]; then
    while IFS= read -r line; do
      [[ $line =~ ^/proc/([0-9]+)/(cwd|exe)\ -\>\ (.*)$ ]] || continue
      [[ ${BASH_REMATCH[3]}/ == "$directory"/* ]] || continue
      end_process "${BASH_REMATCH[1]}"
    done < <(QUOTING_STYLE=literal stat -c %N /proc/[0-9]*/cwd /proc/[0-9]*/exe 2>/dev/null || true)
  fi
}

# ours PID: whether it is one that may be ended.
ours() {
  [[ -O /proc/$1 ]]
}

# end_process PID: with its process group, if that is not our own: a group cannot fork its way out of a signal.
end_process() {
  local own
  [[ $1 =~ ^[0-9]+$ ]] && ours "$1" || return 0
  ! spared "$1" || return 0
  parent_of "$SG_SELF" || return 0
  own=$SG_GROUP
  if [[ -z $SG_ONE_BY_ONE ]] && parent_of "$1" && [[ $SG_GROUP != "$own" ]] && ((SG_GROUP > 1)); then
    kill -KILL -- "-$SG_GROUP" 2>/dev/null || true
  fi
  kill -KILL "$1" 2>/dev/null || true
  SG_FOUND+=("$1")
}

# same_cluster PID: numbers of Slurm jobs repeat between clusters.
same_cluster() {
  local entry
  [[ -n $SG_CLUSTER ]] || return 0
  while IFS= read -r -d '' entry; do
    case $entry in
      "SLURM_CLUSTER_NAME=$SG_CLUSTER") return 0 ;;
      SLURM_CLUSTER_NAME=*) return 1 ;;
    esac
  done 2>/dev/null <"/proc/$1/environ" || true
  return 0
}

# Whose helpers and ancestors are spared: the script itself, or the guard in its place.
SG_SELF=$$
SG_STEP_DAEMON=slurmstepd # Slurm's own process, which runs as the job's user where Slurm does
SG_ONE_BY_ONE=            # whether process groups are left alone

# spared PID: whether it is this script, an ancestor of it, a helper (a descendant, but not by way of the runner),
# the guard, a zombie, or Slurm's own process. Orphans have other parents.
spared() {
  local pid=$1
  parent_of "$pid" || return 0
  [[ $SG_PROCESS_STATE != [ZX] && $SG_COMMAND != "$SG_STEP_DAEMON" ]] || return 0
  while ((pid > 1)); do
    [[ $pid != "${SG_RUNNER:-}" ]] || break
    [[ $pid != "$SG_SELF" && $pid != "${SG_GUARD:-}" ]] || return 0
    parent_of "$pid" || return 0
    pid=$SG_PARENT
  done
  pid=$SG_SELF
  while ((pid > 1)); do
    [[ $pid != "$1" ]] || return 0
    parent_of "$pid" || return 1
    pid=$SG_PARENT
  done
  return 1
}

# descendants_of PID: process ids into SG_FOUND.
descendants_of() {
  local entry pid grown=yes
  local -A parents=() found=()
  for entry in /proc/[0-9]*; do
    pid=${entry#/proc/}
    if parent_of "$pid" && [[ $SG_PROCESS_STATE != [ZX] ]]; then parents[$pid]=$SG_PARENT; fi
  done
  while [[ -n $grown ]]; do
    grown=
    for pid in "${!parents[@]}"; do
      [[ ${parents[$pid]} == "$1" || -n ${found[${parents[$pid]}]:-} ]] || continue
      found[$pid]=yes grown=yes
      unset -v "parents[$pid]"
    done
  done
  SG_FOUND=("${!found[@]}")
}

# parent_of PID: proc(5), stat: "pid (command) state ppid pgrp ..."; the command may hold anything.
parent_of() {
  local text='' rest
  { IFS= read -r -d '' text <"/proc/$1/stat" || true; } 2>/dev/null
  [[ -n $text ]] || return 1
  SG_COMMAND=${text#*\(}
  SG_COMMAND=${SG_COMMAND%)*}
  rest=${text##*) }
  SG_PROCESS_STATE=${rest%% *}
  rest=${rest#* }
  SG_PARENT=${rest%% *}
  rest=${rest#* }
  SG_GROUP=${rest%% *}
}
