# shellcheck shell=bash disable=SC2034 # the files make one script, and share their variables
# A Docker daemon of this job's own: in user, mount, network and process namespaces of its own, with its socket and all that
# it keeps in the job directory. Jobs of one user on one node neither see nor clash with each other's.

SG_ENGINE= # directory of the engine, short: Unix sockets below it have to fit into 107 bytes
SG_ENGINE_LOG=
SG_DAEMON=
SG_NETWORK_WATCH=
readonly SG_EXIT_ENGINE=73     # the container engine does not start
readonly SG_ENGINE_PATIENCE=60 # seconds until it must answer

# rootless DIRECTORY COMMAND...: become COMMAND as root of new namespaces. With a process namespace, nothing that is
# started in there outlives it, whichever process is killed. Ports are published inside only: fixed ones never clash.
rootless() {
  local dir=$1 arguments
  shift
  arguments=(--state-dir="$dir/rk" --mtu=65520 --port-driver=none --propagation=rslave --pidns --copy-up=/etc --copy-up=/run)
  if command -v slirp4netns >/dev/null; then
    # scancel and the time limit signal every process of the job: the network has to last until the runner has told
    # GitHub that its job is cancelled.
    printf '#!/bin/sh\ntrap "" TERM INT HUP USR1\nexec slirp4netns "$@"\n' >"$dir/slirp4netns"
    chmod 0700 "$dir/slirp4netns"
    arguments+=(--net=slirp4netns --slirp4netns-binary="$dir/slirp4netns")
    arguments+=(--slirp4netns-sandbox=auto --slirp4netns-seccomp=auto)
  else
    arguments+=(--net=pasta)
  fi
  [[ -n ${SG_HOST_LOOPBACK:-} ]] || arguments+=(--disable-host-loopback)
  # Engines keep things in HOME too, which a service account may not have.
  export XDG_RUNTIME_DIR=$dir TMPDIR=$dir/tmp HOME=$dir/home
  mkdir -p -- "$dir/tmp" "$dir/home"
  exec rootlesskit "${arguments[@]}" "$@"
}

# rootless_confined DIRECTORY COMMAND...: the same, and the job is shown little of the node: who has the engine's socket can
# mount what the engine sees.
rootless_confined() {
  local dir=$1 path
  local -a keep=() read_only=() hide=()
  shift
  if [[ -n ${SG_JOB_DIR:-} ]]; then # without one there is no job to confine
    keep=("$SG_JOB_DIR") hide=("$SG_NODE_DIR" "$HOME" /run/munge /var/run/munge "${SG_HIDDEN[@]}")
  fi
  for path in "${SG_RUNNER_DIR:-}" "${SG_IMAGES_DIR:-}" "${SG_STORES_DIR:-}"; do
    [[ -z $path || ! -d $path ]] || read_only+=("$path")
  done
  # In a file: rootlesskit prints its arguments when its command fails.
  printf 'set -euo pipefail\n%s\nconfine "$@"\n' "$(declare -f confine)" >"$dir/confine.sh"
  rootless "$dir" bash -p "$dir/confine.sh" "${#keep[@]}" "${keep[@]}" \
    "${#read_only[@]}" "${read_only[@]}" "${#hide[@]}" "${hide[@]}" "$@"
}

# confine N KEEP... N READ_ONLY... N HIDE... COMMAND...: inside. Empty directories over HIDE, with what is kept put back;
# then become COMMAND.
confine() {
  local path number=0 options
  local -a keep read_only hide
  keep=("${@:2:$1}") && shift $(($1 + 1))
  read_only=("${@:2:$1}") && shift $(($1 + 1))
  hide=("${@:2:$1}") && shift $(($1 + 1))
  rm -rf /run/docker /run/docker.sock /run/containerd /run/containers /run/libpod /run/netns /run/xtables.lock
  # Runners mount /var/run/docker.sock into the containers of their jobs: where the engine looks, that is its own.
  ln -s "${BASH_SOURCE[0]%/*}/docker.sock" /run/docker.sock
  for path in "${keep[@]}" "${read_only[@]}"; do
    mkdir -p "/run/.kept/$number"
    mount -n --rbind "$path" "/run/.kept/$((number++))"
  done
  for path in "${hide[@]}"; do
    # It may not be there, or lie in another that is hidden already.
    [[ ! -d $path || $path == / ]] || mount -n -t tmpfs -o mode=0755 tmpfs "$path"
  done
  number=0
  for path in "${keep[@]}" "${read_only[@]}"; do
    mkdir -p "$path"
    mount -n --move "/run/.kept/$((number++))" "$path"
  done
  for path in "${read_only[@]}"; do
    # Flags that the mount has from outside must stay, or the kernel refuses.
    options=$(findmnt --noheadings --first-only --output VFS-OPTIONS --mountpoint "$path")
    mount -n -o "remount,bind,${options/#rw/ro}" "$path"
  done
  rm -rf /run/.kept
  exec "$@"
}

# run_dockerd DIRECTORY ARGUMENT...: become a rootless Docker daemon with its socket at DIRECTORY/docker.sock.
run_dockerd() {
  local dir=$1 proxy=--userland-proxy=false
  shift
  # The one that rootless daemons take by themselves asks rootlesskit to publish ports on the node, and it does not.
  ! command -v docker-proxy >/dev/null || proxy=--userland-proxy-path=$(command -v docker-proxy)
  rootless_confined "$dir" dockerd "$proxy" --host "unix://$dir/docker.sock" --data-root "$dir/data" --exec-root "$dir/docker" \
    --pidfile "$dir/docker.pid" --config-file "$dir/daemon.json" "$@"
}

# need_commands COMMAND...: or end, with the word that names the first that is missing.
need_commands() {
  local command
  for command in "$@"; do
    command -v "$command" >/dev/null ||
      fail "$SG_EXIT_NODE" "node $SG_NODE has no command '$command', which launcher $SG_LAUNCHER needs, on PATH ($PATH)"
  done
}

# need_user_namespaces: newuidmap, and ids for it to map.
need_user_namespaces() {
  local user
  PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin # where the tools of networks and file systems are
  need_commands rootlesskit newuidmap newgidmap
  user=$(id -un)
  [[ -e /dev/net/tun && -r /dev/net/tun && -w /dev/net/tun ]] ||
    fail "$SG_EXIT_NODE" "node $SG_NODE: user $user may not open /dev/net/tun, which the job's private network needs"
  if [[ -r /etc/subuid ]] && ! command -v getsubids >/dev/null; then
    grep -qE "^($user|$EUID):" /etc/subuid 2>/dev/null || no_subordinate_ids "$user"
  elif command -v getsubids >/dev/null; then
    getsubids "$user" >/dev/null 2>&1 || no_subordinate_ids "$user"
  fi
}

no_subordinate_ids() {
  fail "$SG_EXIT_NODE" "node $SG_NODE: user $1 has no range of ids in /etc/subuid and /etc/subgid, which rootless engines need"
}

# subordinate_base: the first of the user's subordinate user ids.
subordinate_base() {
  local name start user
  user=$(id -un)
  if command -v getsubids >/dev/null; then
    # "0: user 100000 65536"
    read -r _ _ start _ < <(getsubids "$user" 2>/dev/null) || true
    printf '%s' "${start:-}"
    return
  fi
  while IFS=: read -r name start _; do
    [[ $name == "$user" || $name == "$EUID" ]] || continue
    printf '%s' "$start"
    return
  done </etc/subuid
}

# make_engine_dir: a directory for the engine in the job directory.
make_engine_dir() {
  SG_ENGINE=$SG_JOB_DIR/e
  SG_ENGINE_LOG=$SG_ENGINE/engine.log
  mkdir -- "$SG_ENGINE" "$SG_ENGINE/data"
}

# start_daemon COMMAND...: in the background, in a process group of its own; COMMAND becomes the daemon.
start_daemon() {
  set -m
  become_daemon "$@" >"$SG_ENGINE_LOG" 2>&1 &
  SG_DAEMON=$!
  set +m
  watch_network &
  SG_NETWORK_WATCH=$!
}

# watch_network: rootlesskit does not see the end of the program that is its network, and the runner would go on without
# GitHub until the time limit.
watch_network() {
  local network=
  trap - EXIT
  ignore_signals
  exec {SG_LOCK}>&-
  [[ -z $SG_REPORTS ]] || exec {SG_REPORTS}>&-
  until [[ -n $network ]]; do
    sleep 0.5
    kill -0 "$SG_DAEMON" 2>/dev/null || exit 0
    find_network
  done
  # rootlesskit leaves it a zombie, to which signals can be sent.
  while parent_of "$network" && [[ $SG_PROCESS_STATE != [ZX] ]]; do sleep 2; done
  kill -0 "$SG_DAEMON" 2>/dev/null || exit 0
  say "the private network of Slurm job $SG_SLURM_ID has failed; ending it"
  kill -KILL -- "-$SG_DAEMON" 2>/dev/null || true
}

# find_network: the process id of slirp4netns or pasta into $network.
find_network() {
  local pid
  descendants_of "$SG_DAEMON"
  for pid in "${SG_FOUND[@]}"; do
    if parent_of "$pid" && [[ $SG_COMMAND == slirp4netns || $SG_COMMAND == pasta* ]]; then network=$pid; fi
  done
}

become_daemon() {
  trap - EXIT
  ignore_signals
  exec </dev/null {SG_LOCK}>&-
  [[ -z $SG_REPORTS ]] || exec {SG_REPORTS}>&-
  SG_SECRET=
  cd /
  "$@"
}

# engine_answers: whether the daemon does.
engine_answers() {
  [[ -S $SG_ENGINE/docker.sock ]] &&
    [[ $(curl --disable --silent --max-time 5 --unix-socket "$SG_ENGINE/docker.sock" http://engine/_ping 2>/dev/null) == OK ]]
}

# await_engine: until it answers; ends the script if it never will.
await_engine() {
  local until
  now
  until=$((SG_NOW + SG_ENGINE_PATIENCE * 1000))
  until engine_answers; do
    end_if_stopped
    now
    if ! kill -0 "$SG_DAEMON" 2>/dev/null; then
      engine_failed "ended before it answered"
    elif ((SG_NOW > until)); then
      engine_failed "did not answer within $SG_ENGINE_PATIENCE s"
    fi
    sleep 0.05 || true
  done
}

engine_failed() {
  tail -n 20 -- "$SG_ENGINE_LOG" >&2 || true
  fail "$SG_EXIT_ENGINE" "the container engine of launcher $SG_LAUNCHER $1 on node $SG_NODE (its last words stand above)"
}

# stop_engine: at once. Nothing of it is kept, and a process namespace ends with its first process.
stop_engine() {
  local pid
  [[ -n $SG_DAEMON ]] || return 0
  end_helper "$SG_NETWORK_WATCH"
  descendants_of "$SG_DAEMON"
  kill -KILL -- "-$SG_DAEMON" 2>/dev/null || true
  for pid in "${SG_FOUND[@]}"; do
    kill -KILL "$pid" 2>/dev/null || true
  done
  wait "$SG_DAEMON" 2>/dev/null || true
  SG_DAEMON=
}
