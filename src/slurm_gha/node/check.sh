# shellcheck shell=bash disable=SC2034,SC2329 # the files make one script, and share their variables
# What this node lacks for the runners of one pool, line by line.

SG_LAUNCHER=${SG_LAUNCHER:-host} SG_IMAGE=${SG_IMAGE:-} SG_IMAGES_DIR=${SG_IMAGES_DIR:-} SG_STORES_DIR=${SG_STORES_DIR:-}
SG_DOCKER=${SG_DOCKER:-} SG_FAKEROOT=${SG_FAKEROOT:-} SG_SCRATCH_MB=${SG_SCRATCH_MB:-0} SG_SNAPSHOTTER=${SG_SNAPSHOTTER:-stargz}
SG_MIRRORS=("${SG_MIRRORS[@]}")

check_node() {
  set +e
  trap leave_check EXIT
  trap 'exit 143' TERM HUP
  trap 'exit 130' INT
  umask 077
  PATH=${SG_NODE_PATH:+$SG_NODE_PATH:}${PATH:-/usr/local/bin:/usr/bin:/bin}:/usr/local/sbin:/usr/sbin:/sbin
  export PATH
  if [[ -z ${HOME:-} ]]; then
    unset -v HOME
    HOME=~
  fi
  export HOME
  SG_NODE=${SLURMD_NODENAME:-${HOSTNAME:-?}}
  printf '%s, launcher %s, on node %s:\n' "$SG_TITLE" "$SG_LAUNCHER" "$SG_NODE"
  check_shell
  check_node_dir
  check_runner_dir
  check_launcher
  check_images
  check_store
  check_mirrors
  check_nvidia
  check_names
  check_service
  check_slurm
  [[ -z $SG_TRY ]] || try_engine
  if ((SG_LACKS > 0)); then
    printf 'node %s: %s %s wrong\n' "$SG_NODE" "$SG_LACKS" "$( ((SG_LACKS == 1)) && echo 'thing is' || echo 'things are')"
    exit 1
  fi
  printf 'node %s: all is well\n' "$SG_NODE"
  exit 0
}

check_launcher() {
  case $SG_LAUNCHER in
    docker)
      check_rootless
      check_dockerd 20.10
      ;;
    podman)
      check_rootless
      check_podman
      ;;
    stargz)
      check_rootless
      check_dockerd 24.0
      check_lazy
      ;;
    apptainer)
      check_apptainer
      if [[ -n $SG_DOCKER ]]; then
        check_rootless
        check_dockerd 20.10
      fi
      ;;
  esac
}

# try_engine: start it as a job would, and get the image if there is one; then take it down.
try_engine() {
  local since
  if [[ $SG_LAUNCHER == host ]]; then
    good start 'the launcher host starts no engine'
    return 0
  elif ((SG_LACKS > 0)) || [[ -z $SG_CHECK_DIR ]]; then
    doubtful start 'not tried, since something is missing'
    return 0
  fi
  now
  since=$SG_NOW
  if start_as_a_job >"$SG_CHECK_DIR/said" 2>&1; then
    seconds_since "$since"
    good start "the engine started, ${SG_IMAGE:+got image $SG_IMAGE, }and was taken down again: $SG_SECONDS s in all"
  else
    SG_SAID=$(grep -v 'level=info' -- "$SG_CHECK_DIR/said" | tail -n 6)
    SG_SAID=${SG_SAID//$'\n'/; }
    bad start "the engine cannot be started: $SG_SAID"
  fi
}

# start_as_a_job: by the launcher's own functions.
start_as_a_job() (
  set -euo pipefail
  SG_SLURM_ID=check SG_CLUSTER='' SG_JOB_DIR=$SG_CHECK_DIR/j SG_NAME=check SG_RUNNER=''
  trap 'set +e; launcher_stop; launcher_clean' EXIT
  trap 'exit 143' TERM
  mkdir -- "$SG_JOB_DIR" "$SG_JOB_DIR/tmp" "$SG_JOB_DIR/run"
  exec {SG_LOCK}>"$SG_JOB_DIR/lock"
  if [[ -z $SG_IMAGE ]]; then get_image_early() { :; }; fi
  launcher_prepare
  [[ -z ${SG_DAEMON:-} ]] || await_engine
  [[ -z $SG_IMAGE || -z ${SG_GETTER:-} ]] || await_image
)

leave_check() {
  local code=$?
  trap '' TERM HUP INT
  if [[ -n $SG_CHECK_DIR ]]; then
    cd /
    SG_SELF=$BASHPID
    end_processes_in "$SG_CHECK_DIR"
    remove_tree "$SG_CHECK_DIR"
  fi
  exit "$code"
}

check_node
