# shellcheck shell=bash disable=SC2034 # the files make one script, and share their variables
# Podman's service in the place of a Docker daemon. It runs as root of rootlesskit's namespaces and not in Podman's own
# rootless way, which leaves processes behind: so its networks and published ports are the private network's, and with the
# first process of the process namespace everything ends.

# write_podman_configuration: all of it in the engine's directory; run_podman puts it where Podman looks.
write_podman_configuration() {
  local etc=$SG_ENGINE/etc
  mkdir -- "$etc" "$SG_ENGINE/bin" "$SG_ENGINE/home"
  podman_runtime
  podman_engine_file >"$etc/containers.conf"
  podman_storage_file >"$etc/storage.conf"
  [[ -z $SG_PODMAN_RELAY ]] || podman_relay >"$SG_ENGINE/relay.pl"
  podman_registries_file >"$etc/registries"
  printf '{"default": [{"type": "insecureAcceptAnything"}]}\n' >"$etc/policy.json"
}

# podman_runtime: crun where all control groups are of version 2, otherwise runc; its path into SG_RUNTIME.
podman_runtime() {
  local name
  local -a names=(runc)
  [[ $(stat -f -c %T /sys/fs/cgroup 2>/dev/null) != cgroup2fs ]] || names=(crun runc)
  for name in "${names[@]}"; do
    if SG_RUNTIME=$(command -v "$name"); then
      [[ $name == crun ]] || wrap_runc
      return 0
    fi
  done
  fail "$SG_EXIT_NODE" "node $SG_NODE has no command '${names[-1]}', which launcher $SG_LAUNCHER needs, on PATH ($PATH)"
}

# wrap_runc: let runc take a container for which nobody may make a control group. Podman passes it an option that only
# crun knows, and limits that only a control group could keep; the Slurm job's own limits hold for all of them together.
wrap_runc() {
  local wrapper=$SG_ENGINE/bin/runc
  {
    printf '#!/bin/bash\nruntime=%q\n' "$SG_RUNTIME"
    declare -f call_runc
    # shellcheck disable=SC2016 # expanded by the wrapper
    printf 'call_runc "$@"\n'
  } >"$wrapper"
  chmod 0700 "$wrapper"
  SG_RUNTIME=$wrapper
}

# call_runc ARGUMENT...: in the wrapper. The keys stand unescaped, as nothing that a user gives can.
call_runc() {
  local -a arguments=()
  local bundle='' edited limit='"(memory|cpu|pids|blockIO)":\{[^{}]*\}'
  while (($# > 0)); do
    case $1 in
      --cgroup-manager) shift ;;
      --bundle | -b)
        bundle=$2
        arguments+=("$1")
        ;;
      *) arguments+=("$1") ;;
    esac
    shift
  done
  if [[ -f $bundle/config.json ]] &&
    edited=$(sed -E -e "s/,$limit//g; s/$limit,?//g" -e 's/,"cgroupsPath":"[^"]*"//; s/"cgroupsPath":"[^"]*",?//' "$bundle/config.json"); then
    printf '%s\n' "$edited" >"$bundle/config.json"
  fi
  # shellcheck disable=SC2154 # set in the wrapper
  exec "$runtime" "${arguments[@]}"
}

# podman_engine_file: locks are files, since those in shared memory are the node's. Podman starts itself to clean up after
# a container, without a PATH. Without systemd, nobody would run the checks of a container's health: health_checks does.
podman_engine_file() {
  local name=${SG_RUNTIME##*/}
  toml '[containers]' 'cgroups = %s' disabled
  printf 'pids_limit = 0\n'
  toml '[engine]' 'runtime = %s' "$name" 'runtime_supports_nocgroup = [%s]' "$name" 'cgroup_manager = %s' cgroupfs \
    'events_logger = %s' file 'lock_type = %s' file
  toml '' 'env = [%s,' "PATH=$PATH" ' %s,' "HOME=$SG_ENGINE/home" ' %s,' "TMPDIR=$SG_ENGINE/tmp" ' %s]' DISABLE_HC_SYSTEMD=true
  toml '[engine.runtimes]' "$name = [%s]" "$SG_RUNTIME"
}

# podman_storage_file
podman_storage_file() {
  toml '[storage]' 'driver = %s' overlay 'graphroot = %s' "$SG_ENGINE/data" 'runroot = %s' "$SG_ENGINE/r"
  [[ -z $SG_PODMAN_STORE ]] || toml '[storage.options]' 'additionalimagestores = [%s]' "$SG_PODMAN_STORE"
  # Without it, the kernel keeps nothing of what overlay notes of removed directories.
  toml '[storage.options.overlay]' 'mountopt = %s' userxattr
}

# podman_registries_file: mirrors that answer. Podman goes to the registry itself for what a mirror does not give.
podman_registries_file() {
  local pair registry host
  SG_REGISTRY='' SG_REPOSITORY=''
  toml '' 'unqualified-search-registries = [%s]' docker.io 'short-name-mode = %s' permissive
  for pair in "${SG_MIRRORS[@]}"; do
    registry=${pair%%=*}
    host=${pair#*=*://}
    host=${host%/}
    find_mirror "$registry" || continue
    toml '[[registry]]' 'location = %s' "$registry"
    toml '[[registry.mirror]]' 'location = %s' "$host"
    [[ $pair != *=http://* ]] || printf 'insecure = true\n'
    # References that are rewritten to the mirror's name.
    toml '[[registry]]' 'location = %s' "${host%%/*}"
    [[ $pair != *=http://* ]] || printf 'insecure = true\n'
  done
}

# toml TABLE (FORMAT VALUE)...: each VALUE quoted.
toml() {
  local value format
  [[ -z $1 ]] || printf '%s\n' "$1"
  shift
  while (($# > 0)); do
    format=$1 value=${2//\\/\\\\}
    # shellcheck disable=SC2059 # it is one
    printf "$format\n" "\"${value//\"/\\\"}\""
    shift 2
  done
}

# run_podman DIRECTORY: become Podman's service with its socket at DIRECTORY/docker.sock.
run_podman() {
  local dir=$1
  printf 'set -euo pipefail\n%s\nenter_podman "$@"\n' "$(declare -f enter_podman choose_overlay health_checks)" >"$dir/podman.sh"
  rootless_confined "$dir" bash -p "$dir/podman.sh" "$dir" "$SG_PODMAN_STORE"
}

# enter_podman DIRECTORY STORE: inside the namespaces, where /etc and /run are private and hold links to the node's own; STORE is
# the read-only image store, or empty.
enter_podman() {
  local dir=$1 store=$2 entry status site=/etc/.slurm-gha-containers
  local -a served=()
  rm -rf /run/runc /run/crun
  [[ ! -e /etc/containers ]] || mv /etc/containers "$site"
  mkdir -p /etc/containers/registries.conf.d
  cp "$dir/etc/containers.conf" "$dir/etc/storage.conf" "$dir/etc/policy.json" /etc/containers/
  # What the site says of registries and signatures holds; mirrors come on top.
  for entry in policy.json registries.conf registries.d certs.d; do
    [[ ! -e $site/$entry ]] || ln -sfn "$site/$entry" "/etc/containers/$entry"
  done
  for entry in "$site"/registries.conf.d/*.conf; do
    [[ ! -e $entry ]] || ln -s "$entry" /etc/containers/registries.conf.d/
  done
  cp "$dir/etc/registries" /etc/containers/registries.conf.d/zz-slurm-gha.conf
  choose_overlay "$dir/tmp/overlay" /etc/containers/storage.conf
  # Podman remembers short names of images there.
  mkdir "$dir/cache"
  if [[ $store == /var/cache/* ]]; then # a store below it must still be seen
    mkdir -p "$dir/cache/${store#/var/cache/}"
    mount --rbind "$store" "$dir/cache/${store#/var/cache/}"
  fi
  mount --rbind "$dir/cache" /var/cache
  # What Podman starts would keep things there by itself.
  unset -v XDG_RUNTIME_DIR
  health_checks </dev/null >/dev/null 2>&1 &
  # scancel and the time limit signal every process of the job. Podman ends of it at once, and with it would the runner,
  # before it has told GitHub that its job is cancelled: so it is started again.
  trap '' TERM INT HUP USR1
  if [[ -e $dir/relay.pl ]]; then
    perl "$dir/relay.pl" "$dir/docker.sock" "$dir/podman.sock" </dev/null &
    served+=("$!")
  else
    ln -s podman.sock "$dir/docker.sock"
  fi
  while :; do
    rm -f "$dir/podman.sock"
    podman system service --time=0 "unix://$dir/podman.sock" &
    status=0
    wait -n "$!" "${served[@]}" || status=$?
    # Its status after a signal differs. One that never worked, or was killed, or has lost its relay, is not to go on.
    [[ -e $dir/image ]] && ((status != 137)) || exit 1
    ((${#served[@]} == 0)) || kill -0 "${served[0]}" || exit 1
    printf 'the service ended with status %s, and is started again\n' "$status" >&2
  done
}

# choose_overlay DIRECTORY FILE: kernels before 5.11, and some file systems, cannot do it for users; then by FUSE.
choose_overlay() {
  local dir=$1 program
  mkdir -p "$dir"/{lower,upper,work,merged}
  if mount -n -t overlay -o "lowerdir=$dir/lower,upperdir=$dir/upper,workdir=$dir/work,userxattr" overlay "$dir/merged"; then
    umount -n "$dir/merged"
  elif program=$(command -v fuse-overlayfs); then
    sed -i "s|^mountopt = .*|mount_program = \"$program\"|" "$2"
  fi
  rm -rf "$dir"
}

# health_checks: once a second for each container that is not known to be well, every ten seconds for the others.
health_checks() {
  local id never round=0
  exec {never}<> <(:)
  while :; do
    read -r -t 1 -u "$never" || true # a pause
    for id in $(podman ps --quiet --filter health=starting --filter health=unhealthy); do
      podman healthcheck run "$id" || true
    done
    ((++round % 10 == 0)) || continue
    for id in $(podman ps --quiet --filter health=healthy); do
      podman healthcheck run "$id" || true
    done
  done
}

# run_attached: be there as long as the runner's container is, though the client may lose the service.
run_attached() {
  local client='' early='' status=0
  trap : TERM HUP USR1 USR2
  trap 'if [[ -n $client ]]; then interrupt_container "$client"; else early=yes; fi' INT
  run_in_container &
  client=$!
  [[ -z $early ]] || interrupt_container "$client"
  while kill -0 "$client" 2>/dev/null; do
    status=0
    wait "$client" || status=$?
  done
  if [[ -e $SG_JOB_DIR/stopped ]]; then
    while kill -0 "$SG_DAEMON" 2>/dev/null && container_is_left; do
      sleep 0.2 || true
    done
  fi
  exit "$status"
}

# interrupt_container CLIENT: through the service, as the client may not have come to the point where it hands signals on.
interrupt_container() {
  until "${SG_CLIENT[@]}" kill --signal INT "$SG_NAME" >/dev/null 2>&1; do
    kill -0 "$1" 2>/dev/null || return 0
    sleep 0.1 || true
  done
}

# container_is_left: the runner's; also if there is no saying, as the service begins anew.
container_is_left() {
  local status=0
  "${SG_CLIENT[@]}" container exists "$SG_NAME" 2>/dev/null || status=$?
  ((status != 1))
}

SG_PODMAN_STORE= # a read-only image store in the catalogue that this Podman, as this user, can use

# find_podman_store: one line if there is one that cannot be used.
find_podman_store() {
  local store why=''
  [[ -n $SG_IMAGE_HOME && -r $SG_IMAGE_HOME/podman.env ]] || return 0
  store=$SG_IMAGE_HOME/podman
  if podman_store_fits "$store"; then
    SG_PODMAN_STORE=$store
  else
    say "image $SG_IMAGE: its podman store is not used, since $why; getting the image in another way"
  fi
}

# podman_store_fits DIRECTORY: else the reason into $why.
podman_store_fits() {
  if [[ ! -r $1/overlay-images/images.json || ! -x $1/overlay ]]; then
    why="$1 cannot be read on node $SG_NODE"
    return 1
  fi
  image_value podman.env ENGINE_VERSION || true
  if [[ $SG_VALUE != "$SG_PODMAN_VERSION" ]]; then
    why="it was made by podman $SG_VALUE, and node $SG_NODE has $SG_PODMAN_VERSION"
    return 1
  fi
  image_value podman.env DRIVER || true
  if [[ $SG_VALUE != overlay ]]; then
    why="it was made with the storage driver '$SG_VALUE', and this is overlay"
    return 1
  fi
  made_for_this_user podman.env
}
