# shellcheck shell=bash disable=SC2034 # the files make one script, and share their variables
# Launcher "podman": as launcher "docker", by Podman's service and its own client; the runner's image has a Docker client.

launcher_prepare() {
  local home=$HOME
  need_user_namespaces
  need_commands curl id sed tail
  need_podman
  find_image
  make_engine_dir
  find_podman_store
  write_podman_configuration
  [[ -d $home ]] || home=$SG_ENGINE/home # a service account may have none
  # The client sets some of a container's properties by its own configuration.
  SG_CLIENT=(env "CONTAINERS_CONF=$SG_ENGINE/etc/containers.conf" "XDG_RUNTIME_DIR=$SG_ENGINE" "HOME=$home"
    podman --remote --url "unix://$SG_ENGINE/podman.sock")
  start_daemon run_podman "$SG_ENGINE"
  get_image_early
}

# launcher_start: in the place of the one that launchers with containers share.
launcher_start() {
  await_image
  make_runner_root
  start_runner run_attached
}
