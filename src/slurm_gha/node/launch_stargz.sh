# shellcheck shell=bash disable=SC2034 # the files make one script, and share their variables
# Launcher "stargz": as launcher docker, but that the image's files are fetched from the registry when they are first read.
#
# The job's Docker keeps its images in a containerd of its own, beside which a snapshotter serves the files by FUSE: stargz
# for images in its own format (eStargz), or soci for any image that has an index in the registry. All three are in the one
# process namespace, and end together.

launcher_prepare() {
  need_user_namespaces
  if [[ $SG_SNAPSHOTTER == soci ]]; then need_commands soci-snapshotter-grpc; else need_commands containerd-stargz-grpc; fi
  need_commands containerd dockerd docker curl id tail
  need_containerd_images
  [[ -r /dev/fuse && -w /dev/fuse ]] ||
    fail "$SG_EXIT_NODE" "node $SG_NODE: user $(id -un) may not open /dev/fuse, which launcher stargz needs"
  find_image
  choose_lazy_form
  make_engine_dir
  SG_CLIENT=(docker --host "unix://$SG_ENGINE/docker.sock")
  dockerd_mirrors
  configure_snapshotter >"$SG_ENGINE/snapshotter.toml"
  configure_containerd >"$SG_ENGINE/containerd.toml"
  printf '{"features": {"containerd-snapshotter": true}, "storage-driver": "%s"}\n' "$SG_SNAPSHOTTER" >"$SG_ENGINE/daemon.json"
  start_daemon run_lazy_dockerd
  get_image_early
}

# need_containerd_images: Docker knows containerd's snapshotters from version 24 on.
need_containerd_images() {
  local said
  said=$(dockerd --version 2>/dev/null) || said=
  if [[ ! $said =~ version\ ([0-9]+)\. ]] || ((BASH_REMATCH[1] < 24)); then
    fail "$SG_EXIT_NODE" "launcher stargz needs dockerd 24 or later, and node $SG_NODE has '$said': put a newer one on node_path"
  fi
}

# choose_lazy_form: an image of the catalogue is pulled from where it was published.
choose_lazy_form() {
  [[ -n $SG_IMAGE_HOME ]] || return 0
  if [[ $SG_SNAPSHOTTER == stargz ]] && image_value estargz.env PULL; then
    SG_IMAGE=$SG_VALUE
  elif image_value image.env PULL; then
    SG_IMAGE=$SG_VALUE
  else
    fail "$SG_EXIT_IMAGE" "image $SG_IMAGE ($SG_IMAGE_HOME) is in no registry: publish it with --to estargz"
  fi
  SG_IMAGE_HOME=
}

# configure_snapshotter: stargz and soci read registries by the same table. Mirrors that speak HTTP have to be named as such,
# by their own name too, since references are rewritten to them.
configure_snapshotter() {
  local pair host
  local -A lines=()
  # A job ends before there is anything to measure, and ports would clash. Fetching also what nobody has read yet would
  # bring every job the whole image.
  if [[ $SG_SNAPSHOTTER == stargz ]]; then
    printf 'no_prometheus = true\nno_background_fetch = true\n'
  else
    printf '[background_fetch]\ndisable = true\n'
  fi
  for pair in "${SG_MIRRORS[@]}"; do
    host=${pair#*://}
    host=${host%%/*}
    lines[${pair%%=*}]+=$(mirror_lines "${pair%%=*}" "$host" "${pair#*=}")$'\n'
    [[ -n ${lines[$host]:-} ]] || lines[$host]=$(mirror_lines "$host" "$host" "${pair#*=}")$'\n'
  done
  ((${#lines[@]} == 0)) || printf '%s' "${lines[@]}"
}

# mirror_lines REGISTRY HOST URL
mirror_lines() {
  printf '[[resolver.host."%s".mirrors]]\nhost = "%s"\n' "$1" "$2"
  [[ $3 != http://* ]] || printf 'insecure = true\n'
}

configure_containerd() {
  printf 'version = 2\nroot = "%s"\nstate = "%s"\n' "$SG_ENGINE/data/containerd" "$SG_ENGINE/containerd"
  # Kubernetes' interface, which nobody asks for here.
  printf 'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
  printf '[grpc]\naddress = "%s"\n' "$SG_ENGINE/containerd.sock"
  printf '[proxy_plugins.%s]\ntype = "snapshot"\naddress = "%s"\n' "$SG_SNAPSHOTTER" "$SG_ENGINE/snapshotter.sock"
}

# run_lazy_dockerd: become the three daemons; when one of them ends, all do, since neither of the others sees it, and nothing
# that is not read yet could be. The snapshotter gets the user's logins to registries on standard input: jobs could read a
# file.
run_lazy_dockerd() {
  local dir=$SG_ENGINE daemon=containerd-stargz-grpc proxy=--userland-proxy=false logins=/dev/null
  [[ $SG_SNAPSHOTTER != soci ]] || daemon=soci-snapshotter-grpc
  ! command -v docker-proxy >/dev/null || proxy=--userland-proxy-path=$(command -v docker-proxy)
  [[ ! -r $HOME/.docker/config.json ]] || logins=$HOME/.docker/config.json
  # Snapshotters make the roots of containers by it, and these are for all users inside.
  umask 022
  # In a file: rootlesskit prints its arguments when its command fails.
  printf '%s\nrun_daemons "$@"\n' "$(declare -f run_daemons)" >"$dir/daemons.sh"
  rootless_confined "$dir" bash -p "$dir/daemons.sh" "$dir" "$daemon" "$proxy" \
    --host "unix://$dir/docker.sock" --containerd "$dir/containerd.sock" --data-root "$dir/data/docker" \
    --exec-root "$dir/docker" --pidfile "$dir/docker.pid" --config-file "$dir/daemon.json" "${SG_DOCKERD_MIRRORS[@]}" <"$logins"
}

# run_daemons DIRECTORY SNAPSHOTTER ARGUMENT...: inside, with dockerd's arguments, until one of the daemons ends.
run_daemons() {
  local dir=$1 snapshotter containerd dockerd
  "$2" --address "$dir/snapshotter.sock" --root "$dir/data/snapshotter" --config "$dir/snapshotter.toml" <&0 &
  snapshotter=$!
  exec </dev/null
  containerd --config "$dir/containerd.toml" &
  containerd=$!
  until [[ -S $dir/containerd.sock && -S $dir/snapshotter.sock ]]; do
    kill -0 "$snapshotter" && kill -0 "$containerd" || return
    sleep 0.02
  done
  dockerd "${@:3}" &
  dockerd=$!
  while kill -0 "$snapshotter" && kill -0 "$containerd" && kill -0 "$dockerd"; do sleep 1; done
}
