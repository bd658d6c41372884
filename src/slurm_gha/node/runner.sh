# shellcheck shell=bash disable=SC2034 # the files make one script, and share their variables
# The runner's own directory, its process, and its output: what all launchers share.

SG_RUNNER=
SG_WATCHER=

# copy_runner: the runner writes into its root, and finds its root by the real path of bin, so bin is copied. The
# large externals (several Node.js) are only read: a link will do.
copy_runner() {
  local root=$SG_JOB_DIR/runner entry name
  local -a entries=()
  if [[ ! -x $SG_RUNNER_DIR/run.sh || ! -d $SG_RUNNER_DIR/bin ]]; then
    fail "$SG_EXIT_RUNNER_DIR" \
      "runner_dir $SG_RUNNER_DIR on node $SG_NODE holds no unpacked actions/runner: run.sh or bin is missing"
  fi
  shopt -s nullglob dotglob
  for entry in "$SG_RUNNER_DIR"/*; do
    name=${entry##*/}
    case $name in
      # An earlier update leaves bin.VERSION and externals.VERSION, with bin and externals as links to them.
      bin.* | externals | externals.*) ;;
      # What a runner writes itself: here at most somebody's mistake.
      _work | _diag | .runner* | .credentials* | .setup_info) ;;
      *) entries+=("$entry") ;;
    esac
  done
  shopt -u nullglob dotglob
  mkdir -- "$root"
  [[ ! -d $SG_RUNNER_DIR/externals ]] || ln -s -- "$SG_RUNNER_DIR/externals" "$root/externals"
  cp -aH --reflink=auto -- "${entries[@]}" "$root/" {SG_LOCK}>&- &
  attend "$!" TERM
  end_if_stopped
  [[ $SG_STATUS -eq 0 ]] ||
    fail "$SG_EXIT_RUNNER_DIR" "runner_dir $SG_RUNNER_DIR could not be copied to $root (see above)"
  chmod -R u+rwX -- "$root" {SG_LOCK}>&- &
  attend "$!" TERM
  end_if_stopped
  setup_info >"$root/.setup_info"
}

# setup_info: what the runner prints in the step "Set up job".
setup_info() {
  local detail="Slurm job $SG_SLURM_ID on node $SG_NODE, partition ${SLURM_JOB_PARTITION:-?}"
  detail+=", cluster ${SG_CLUSTER:-?}, runner $SG_NAME"
  detail=${detail//[[:cntrl:]]/ }
  detail=${detail//\\/\\\\}
  printf '[{"group":"Slurm","detail":"%s"}]\n' "${detail//\"/\\\"}"
}

# job_variables: the names of what a runner in a container gets of the environment too: Slurm's, and those by which programs
# know their GPUs.
job_variables() {
  compgen -e |
    grep -E '^(SLURM_.*|(CUDA|NVIDIA|ROCR)_VISIBLE_DEVICES|GPU_DEVICE_ORDINAL|ZE_AFFINITY_MASK)$'
}

# start_runner COMMAND...: run it, which must become the runner, in a process group of its own, its output watched. Job
# control also keeps bash from starting it with SIGINT ignored, which run.sh could not undo.
start_runner() {
  local output
  install_hook "$SG_JOB_DIR/runner"
  exec {output}> >(watch_output)
  SG_WATCHER=$!
  set -m
  become_runner "$@" >&"$output" {output}>&- &
  SG_RUNNER=$!
  set +m
  exec {output}>&-
  SG_JIT=
  unset -v SG_JIT
  report launched
}

become_runner() {
  trap - EXIT TERM HUP INT USR1 USR2 PIPE
  # A signal before that line was for the parent's traps: it is seen by what on_signal leaves.
  [[ ! -e $SG_JOB_DIR/stopped ]] || exit 130
  exec </dev/null {SG_LOCK}>&-
  [[ -z $SG_REPORTS ]] || exec {SG_REPORTS}>&-
  # The directory around it is private; what jobs build should have the modes that people expect.
  umask 022
  "$@"
}

# watch_output: pass the runner's output on, and report its markers.
watch_output() {
  local line stamp='^([0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}Z: )?'
  ignore_signals
  trap - EXIT
  exec {SG_LOCK}>&-
  while IFS= read -r line || [[ -n $line ]]; do
    if [[ $line == 'slurm-gha: in the container' ]]; then # of enter.sh
      mark 'container running'
      continue
    fi
    printf '%s\n' "$line" 2>/dev/null || true
    if [[ $line =~ ${stamp}'Listening for Jobs' ]]; then
      mark listening
      report listening
    elif [[ $line =~ ${stamp}'Running job: '(.*)$ ]]; then
      report job_started "${BASH_REMATCH[2]}"
    elif [[ $line =~ ${stamp}'Job '.*' completed with result: '([A-Za-z]+) ]]; then
      report job_finished "${BASH_REMATCH[2]}"
    fi
  done
  return 0
}

# end_watcher MILLISECONDS: let it pass on what is still in the pipe.
end_watcher() {
  [[ -n $SG_WATCHER ]] || return 0
  await_end "$SG_WATCHER" "$1" || end_helper "$SG_WATCHER"
  SG_WATCHER=
}
