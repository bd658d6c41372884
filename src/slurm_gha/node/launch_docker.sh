# shellcheck shell=bash disable=SC2034 # the files make one script, and share their variables
# Launcher "docker": a rootless Docker daemon of the job's own; the runner is one of its containers.

launcher_prepare() {
  need_user_namespaces
  need_commands dockerd docker containerd curl id tail
  find_image
  make_engine_dir
  SG_CLIENT=(docker --host "unix://$SG_ENGINE/docker.sock")
  printf '{}\n' >"$SG_ENGINE/daemon.json"
  dockerd_mirrors
  seed_store || true
  start_daemon run_dockerd "$SG_ENGINE" "${SG_DOCKERD_MIRRORS[@]}"
  get_image_early
}
