# shellcheck shell=bash disable=SC2034 # the files make one script, and share their variables
# What runs first inside of the container, by way of its text: it uses nothing of the rest.

# enter_container ROOT IMAGE_RUNNER: inside. Becomes the runner in ROOT; IMAGE_RUNNER is where the image has its own.
enter_container() {
  local root=$1 image=$2 jit entry name
  printf 'slurm-gha: in the container\n'
  IFS= read -r jit
  umask 022
  if [[ ! -e $root/run.sh ]]; then
    if [[ ! -x $image/run.sh ]]; then
      printf 'slurm-gha: the image has no runner in %s: set image_runner_dir, or runner_dir for one of the node\n' "$image" >&2
      exit 78
    fi
    shopt -s nullglob dotglob
    for entry in "$image"/*; do
      name=${entry##*/}
      case $name in
        bin.* | externals.* | _work | _diag | .runner* | .credentials* | .setup_info) ;;
        externals) [[ -L $root/externals ]] || cp -dRH --preserve=mode,timestamps,links -- "$entry" "$root/externals" ;;
        *) cp -dRH --preserve=mode,timestamps,links -- "$entry" "$root/" ;;
      esac
    done
    shopt -u nullglob dotglob
  fi
  cd -- "$root" || exit
  [[ ! -e job-started.sh ]] || export ACTIONS_RUNNER_HOOK_JOB_STARTED=$root/job-started.sh
  export RUNNER_MANUALLY_TRAP_SIG=1 ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE=1 RUNNER_ALLOW_RUNASROOT=1
  export ACTIONS_RUNNER_INPUT_JITCONFIG=$jit
  exec ./run.sh </dev/null
}
