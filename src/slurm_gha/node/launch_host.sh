# shellcheck shell=bash disable=SC2034 # the files make one script, and share their variables
# Launcher "host": the runner runs directly on the node, from a private copy of runner_dir.

launcher_prepare() {
  :
}

launcher_start() {
  copy_runner
  start_runner run_on_host
}

run_on_host() {
  local pair
  cd -- "$SG_JOB_DIR/runner" || exit
  export TMPDIR=$SG_JOB_DIR/tmp XDG_RUNTIME_DIR=$SG_JOB_DIR/run
  if [[ ! -d $HOME || ! -w $HOME ]]; then # a service account may have none
    mkdir -p -- "$SG_JOB_DIR/home"
    export HOME=$SG_JOB_DIR/home
  fi
  for pair in "${SG_ENVIRONMENT[@]}"; do
    export "${pair?}"
  done
  [[ ! -e job-started.sh ]] || export ACTIONS_RUNNER_HOOK_JOB_STARTED=$SG_JOB_DIR/runner/job-started.sh
  export RUNNER_MANUALLY_TRAP_SIG=1 ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE=1
  ((EUID != 0)) || export RUNNER_ALLOW_RUNASROOT=1
  export ACTIONS_RUNNER_INPUT_JITCONFIG=$SG_JIT
  exec ./run.sh
}

launcher_stop() {
  :
}

launcher_clean() {
  :
}
