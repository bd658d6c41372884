# shellcheck shell=bash
# A rootless Docker daemon in namespaces of its own.

run_dockerd() {
  local dir=$1 arguments
  shift
  arguments=(--state-dir="$dir/rk" --mtu=65520 --port-driver=none --propagation=rslave --pidns --copy-up=/etc --copy-up=/run
    --net=slirp4netns)
  [[ -n ${SG_HOST_LOOPBACK:-} ]] || arguments+=(--disable-host-loopback)
  export XDG_RUNTIME_DIR=$dir TMPDIR=$dir/tmp
  mkdir -p -- "$dir/tmp"
  # shellcheck disable=SC2016 # expanded by the inner shell
  exec rootlesskit "${arguments[@]}" sh -ec 'rm -rf /run/docker /run/containerd /run/xtables.lock; exec dockerd "$@"' dockerd \
    --host "unix://$dir/docker.sock" --data-root "$dir/data" --exec-root "$dir/docker" --pidfile "$dir/docker.pid" \
    --config-file "$dir/daemon.json" "$@"
}
