# shellcheck shell=bash disable=SC2034 # the files make one script, and share their variables
# Launcher "apptainer": the runner in an Apptainer container, with a rootless Docker daemon beside it if the pool wants one.
#
# Nothing is seen of the node but what is bound in: the runner's directory, the home of this job, the Docker socket. Changes
# to the image go to an overlay in the job directory; Apptainer's own writable layer (--writable-tmpfs) holds 64 MB.

SG_ARGUMENTS=()
SG_PROGRAMS_WATCH=

launcher_prepare() {
  PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin # where the tools of file systems are
  need_commands apptainer id
  if [[ -n $SG_DOCKER ]]; then
    need_user_namespaces
    need_commands dockerd containerd curl nsenter tail
  fi
  choose_form
  if [[ -f $SG_IMAGE_PATH ]] || ((SG_SCRATCH_MB > 0)); then need_fuse; fi
  if [[ -n $SG_DOCKER ]]; then
    make_engine_dir
    printf '{}\n' >"$SG_ENGINE/daemon.json"
    dockerd_mirrors
    start_daemon run_dockerd "$SG_ENGINE" "${SG_DOCKERD_MIRRORS[@]}"
  fi
  get_image_early
  mkdir -- "$SG_JOB_DIR/bin" "$SG_JOB_DIR/home" "$SG_JOB_DIR/work"
  copy_fuse_programs
  make_overlay
}

launcher_start() {
  await_image
  if [[ -n $SG_DOCKER ]]; then
    await_engine
    mark 'engine up'
  fi
  make_runner_root
  choose_overlay_driver
  start_runner run_in_apptainer
  watch_programs &
  SG_PROGRAMS_WATCH=$!
}

launcher_stop() {
  end_helper "$SG_PROGRAMS_WATCH"
  end_getter
  stop_engine
}

launcher_clean() {
  unmark_image
}

# need_fuse: SIF files and overlays in a file are mounted by programs of the user.
need_fuse() {
  need_commands fuse-overlayfs
  if [[ -f $SG_IMAGE_PATH ]]; then
    command -v squashfuse_ll >/dev/null || need_commands squashfuse
  fi
  ((SG_SCRATCH_MB == 0)) || need_commands fuse2fs mkfs.ext3
  [[ -r /dev/fuse && -w /dev/fuse ]] ||
    fail "$SG_EXIT_NODE" "node $SG_NODE: user $(id -un) may not open /dev/fuse, which image $SG_IMAGE or scratch needs"
}

# copy_fuse_programs: what serves the container's file systems runs outside of the container's process namespace, and outlives
# an Apptainer that is killed. Apptainer takes these programs from PATH, and gives them no environment, and they leave their
# directory: run from the job directory, they are known by where their program is.
copy_fuse_programs() {
  local name path
  for name in squashfuse_ll squashfuse fuse2fs fuse-overlayfs gocryptfs; do
    path=$(command -v "$name") || continue
    cp -- "$path" "$SG_JOB_DIR/bin/$name"
  done
}

# watch_programs: Apptainer does not see the end of a program that serves the container's files, nor of the daemon beside it,
# whose network is the container's: what runs in there would hang or fail, until the time limit.
watch_programs() {
  local pid entrance=
  local -a programs=()
  trap - EXIT
  ignore_signals
  exec {SG_LOCK}>&-
  [[ -z $SG_REPORTS ]] || exec {SG_REPORTS}>&-
  until [[ -n $entrance ]]; do
    sleep 0.5
    alive "$SG_RUNNER" || exit 0
    programs=()
    [[ -z $SG_DOCKER ]] || programs=("$SG_DAEMON")
    descendants_of "$SG_RUNNER"
    for pid in "${SG_FOUND[@]}"; do
      parent_of "$pid" || continue
      case $SG_COMMAND in
        run.sh) entrance=$pid ;; # so all files are there
        squashfuse* | fuse2fs | fuse-overlayfs | gocryptfs) programs+=("$pid") ;;
      esac
    done
  done
  ((${#programs[@]} > 0)) || exit 0
  while alive "${programs[@]}"; do sleep 2; done
  # At the end of a container, the runner is gone before they are.
  alive "$entrance" || exit 0
  say "the container of Slurm job $SG_SLURM_ID has lost its files or its engine; ending it"
  kill -KILL -- "-$SG_RUNNER" 2>/dev/null || true
}

# alive PID...: whether all of them are.
alive() {
  local pid
  for pid in "$@"; do
    parent_of "$pid" && [[ $SG_PROCESS_STATE != [ZX] ]] || return 1
  done
}

# make_overlay: a directory, as large as the disk; or, where the file system cannot be an overlay's upper layer (NFS,
# Lustre), a file with a file system in it, which takes room as it is filled.
make_overlay() {
  local -a arguments=(--size "$SG_SCRATCH_MB" --sparse)
  SG_OVERLAY=$SG_JOB_DIR/overlay
  if ((SG_SCRATCH_MB == 0)); then
    mkdir -- "$SG_OVERLAY"
    return 0
  fi
  # Beside root's directories, the user's own view is made, unless the container has a root of its own.
  [[ -z $SG_FAKEROOT$SG_DOCKER ]] || arguments+=(--fakeroot)
  apptainer --quiet overlay create "${arguments[@]}" "$SG_OVERLAY" >"$SG_JOB_DIR/overlay.log" 2>&1 {SG_LOCK}>&- &
  attend "$!" TERM
  end_if_stopped
  if [[ $SG_STATUS -ne 0 ]]; then
    tail -n 5 -- "$SG_JOB_DIR/overlay.log" >&2
    fail "$SG_EXIT_JOB_DIR" "a writable layer of $SG_SCRATCH_MB MB cannot be made in $SG_JOB_DIR on node $SG_NODE (see above)"
  fi
}

# choose_overlay_driver: to the kernel, files of an owner whom the container's root does not stand for are nobody's, and
# that root may not change them. fuse-overlayfs shows the whole image as that root's.
choose_overlay_driver() {
  local setting file
  [[ -n $SG_FAKEROOT$SG_DOCKER && -d $SG_IMAGE_PATH && ! -O $SG_IMAGE_PATH ]] || return 0
  ((SG_SCRATCH_MB == 0)) || return 0 # that one is fuse-overlayfs's anyway
  command -v fuse-overlayfs >/dev/null && [[ -r /dev/fuse && -w /dev/fuse ]] || return 0
  setting=$(apptainer buildcfg 2>/dev/null) || return 0
  # An Apptainer with setuid takes no configuration from a user.
  [[ $setting == *APPTAINER_SUID_INSTALL=0* && $setting =~ APPTAINER_CONF_FILE=([^$'\n']+) ]] || return 0
  file=${BASH_REMATCH[1]}
  [[ -r $file ]] || return 0
  while IFS= read -r setting || [[ -n $setting ]]; do
    [[ $setting != 'enable overlay ='* ]] || setting='enable overlay = driver'
    printf '%s\n' "$setting"
  done <"$file" >"$SG_JOB_DIR/apptainer.conf"
  SG_ARGUMENTS+=(--config "$SG_JOB_DIR/apptainer.conf")
}

# make_runner_root: a copy of runner_dir, or empty, for the image's own runner to be copied into. The large externals are
# where the image has them; Docker can only use them where the node sees them too.
make_runner_root() {
  local root=$SG_JOB_DIR/runner externals=
  if [[ -n $SG_RUNNER_DIR ]]; then
    copy_runner
  else
    mkdir -- "$root"
    setup_info >"$root/.setup_info"
    if [[ -d $SG_IMAGE_PATH$SG_IMAGE_RUNNER/externals ]]; then
      externals=$(readlink -f -- "$SG_IMAGE_PATH$SG_IMAGE_RUNNER/externals")
    elif [[ -z $SG_DOCKER ]]; then
      externals=$SG_IMAGE_RUNNER/externals
    fi
    [[ -z $externals ]] || ln -s -- "$externals" "$root/externals"
  fi
  chmod 0755 "$root"
}

# run_in_apptainer: become Apptainer, with the runner in its container. --containall gives the container process
# identifiers of its own, and ends it with its first process; SIGINT goes on to the runner.
run_in_apptainer() {
  local root=$SG_JOB_DIR/runner pair name externals
  local -a command=() arguments=(--quiet "${SG_ARGUMENTS[@]}" exec --containall --no-eval)
  arguments+=(--home "$SG_JOB_DIR/home" --workdir "$SG_JOB_DIR/work" --overlay "$SG_OVERLAY")
  arguments+=(--bind "$root" --pwd "$root")
  if [[ -L $root/externals ]]; then
    externals=$(readlink -- "$root/externals")
    [[ ! -d $externals ]] || arguments+=(--bind "$externals:$externals:ro")
  fi
  [[ -z $SG_NVIDIA ]] || arguments+=(--nv)
  if [[ -n $SG_DOCKER ]]; then
    # In the daemon's own user and network: ids are the same, and published ports are at localhost.
    enter_engine
    command=("${SG_ENTER[@]}")
    arguments+=(--bind "$SG_ENGINE/docker.sock:/var/run/docker.sock")
    [[ ! -s $SG_ENGINE/resolv.conf ]] || arguments+=(--bind "$SG_ENGINE/resolv.conf:/etc/resolv.conf")
  elif [[ -n $SG_FAKEROOT ]]; then
    arguments+=(--fakeroot)
  fi
  # Values stay out of the arguments.
  for pair in "${SG_ENVIRONMENT[@]}"; do
    export "APPTAINERENV_$pair"
  done
  while IFS= read -r name; do
    export "APPTAINERENV_$name=${!name}"
  done < <(job_variables)
  export PATH=$SG_JOB_DIR/bin:$PATH
  # The configuration goes in on standard input: arguments and environment can be seen from outside.
  exec "${command[@]}" apptainer "${arguments[@]}" "$SG_IMAGE_PATH" \
    bash -c "$(declare -f enter_container); enter_container \"\$@\"" runner "$root" "$SG_IMAGE_RUNNER" \
    < <(printf '%s\n' "$SG_JIT")
}

# enter_engine: the command that runs another in the daemon's user and network namespaces, into SG_ENTER. Its process and
# mount namespaces stay out: Apptainer makes its own, and needs a /proc that knows it.
enter_engine() {
  local pid
  pid=$(<"$SG_ENGINE/rk/child_pid")
  cat -- "/proc/$pid/root/etc/resolv.conf" >"$SG_ENGINE/resolv.conf" 2>/dev/null || true
  SG_ENTER=(nsenter --target "$pid" --user --net --preserve-credentials --)
}
