# shellcheck shell=bash disable=SC2034 # the files make one script, and share their variables
# One runner, from the start of the Slurm job to its end.

SG_SWEEPER=

main() {
  begin_times
  trap finish EXIT
  watch_signals
  prepare_environment
  make_job_dir
  start_guard
  sweep {SG_LOCK}>&- &
  SG_SWEEPER=$!
  launcher_prepare
  case $SG_HANDOVER in
    claim) claim ;;
    stdin) read_configuration ;;
    *) fail "$SG_EXIT_USAGE" "unknown handover '$SG_HANDOVER'" ;;
  esac
  end_if_stopped
  mark configured
  start_reporter
  launcher_start
  attend "$SG_RUNNER" INT
  conclude
}

# conclude: the runner's exit status as the script's.
conclude() {
  local status=$SG_STATUS
  SG_LAST_WORDS=$status
  if [[ -n $SG_STOPPED_BY ]]; then
    signal_status
    SG_LAST_WORDS="$status after SIG$SG_STOPPED_BY"
    say "stopped by SIG$SG_STOPPED_BY; the runner ended with exit code $status"
    exit "$SG_SIGNAL_STATUS"
  fi
  case $status in
    0) exit 0 ;;
    "$SG_EXIT_VERSION")
      local renew="runner_dir $SG_RUNNER_DIR"
      [[ -n $SG_RUNNER_DIR ]] || renew="image $SG_IMAGE"
      fail "$SG_EXIT_VERSION" "GitHub no longer accepts this version of the runner: renew $renew"
      ;;
    *) fail "$SG_EXIT_RUNNER" "the runner failed with exit code $status" ;;
  esac
}

# finish: on every way out but SIGKILL.
finish() {
  local code=$?
  set +e
  ignore_signals
  trap - EXIT
  SG_SECRET='' SG_JIT=''
  if [[ -n $SG_STOPPED_BY && $code -eq 1 ]]; then # set -e, by a command that had its own signal
    signal_status
    code=$SG_SIGNAL_STATUS
  fi
  if [[ -n $SG_JOB_DIR ]]; then
    cd /
    [[ -z $SG_RUNNER ]] || kill -KILL -- "-$SG_RUNNER" 2>/dev/null
    launcher_stop
    end_leftovers
    end_watcher 1000
    report ended "${SG_LAST_WORDS:-$code}"
    if [[ -n $SG_SWEEPER ]]; then
      [[ -z $SG_STOPPED_BY ]] && await_end "$SG_SWEEPER" 3000
      end_helper "$SG_SWEEPER"
    fi
    launcher_clean
    remove_tree "$SG_JOB_DIR"
    if [[ -z $SG_STOPPED_BY ]]; then end_reporter 6000; else end_reporter 2000; fi
    # What a helper that had to be killed was just running.
    end_leftovers
    end_guard
  fi
  exit "$code"
}

main
