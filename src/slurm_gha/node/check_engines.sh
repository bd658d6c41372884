# shellcheck shell=bash disable=SC2034 # the files make one script, and share their variables
# Checks for container engines that users run themselves.

readonly SG_IDS_NEEDED=65536 # images use ids up to 65534

check_namespaces() {
  local file value
  for file in /proc/sys/kernel/unprivileged_userns_clone /proc/sys/user/max_user_namespaces; do
    [[ -r $file ]] || continue
    value=$(<"$file")
    ((value > 0)) || bad namespaces "$file is $value: user namespaces are forbidden here; set it with sysctl"
  done
  file=/proc/sys/kernel/apparmor_restrict_unprivileged_userns
  if [[ -r $file && $(<"$file") == 1 ]]; then
    doubtful namespaces "$file is 1: AppArmor has to allow user namespaces to rootlesskit (or to apptainer) by a profile"
  fi
  if quietly unshare --user --map-root-user true; then
    good namespaces 'this user can make user namespaces'
  else
    bad namespaces "this user cannot make user namespaces: $SG_SAID"
  fi
}

check_subordinate_ids() {
  local kind
  local -a option
  for kind in uid gid; do
    option=()
    [[ $kind == uid ]] || option=(-g)
    check_range "$kind" "${option[@]}"
    check_mapper "new${kind}map"
  done
}

# check_range uid|gid [OPTION]
check_range() {
  local kind=$1 user name first count most=0 start=''
  shift
  user=$(id -un 2>/dev/null) || user=$EUID
  if has getsubids; then
    while read -r _ _ first count; do
      if [[ $count =~ ^[0-9]+$ ]] && ((count > most)); then most=$count start=$first; fi
    done < <(getsubids "$@" "$user" 2>/dev/null)
  elif [[ -r /etc/sub$kind ]]; then
    while IFS=: read -r name first count; do
      [[ $name == "$user" || $name == "$EUID" ]] || continue
      if [[ $count =~ ^[0-9]+$ ]] && ((count > most)); then most=$count start=$first; fi
    done <"/etc/sub$kind"
  fi
  if ((most == 0)); then
    bad "sub$kind" "user $user has no range of ids in /etc/sub$kind: usermod --add-sub${kind}s FIRST-LAST $user"
  elif ((most < SG_IDS_NEEDED)); then
    bad "sub$kind" "user $user has $most ids from $start on; images need $SG_IDS_NEEDED"
  else
    good "sub$kind" "$most ids from $start on"
  fi
}

# check_mapper COMMAND: it has to have root's rights, by its mode or by capabilities.
check_mapper() {
  local path capability=cap_setuid
  if ! path=$(command -v "$1"); then
    bad "$1" 'not found: install uidmap (shadow-utils)'
    return 0
  fi
  [[ $1 != newgidmap ]] || capability=cap_setgid
  if [[ -u $path && $(stat -L -c %u -- "$path") == 0 ]]; then
    good "$1" "$path is setuid root"
  elif ! has getcap; then
    doubtful "$1" "$path is not setuid root, and whether it has $capability cannot be told without getcap"
  elif quietly getcap -- "$path" && [[ $SG_SAID == *"$capability"* ]]; then
    good "$1" "$path has $capability"
  else
    bad "$1" "$path is neither setuid root nor has it $capability: chmod u+s $path"
  fi
}

# check_device PATH GRAVITY WHAT: that this user can open it.
check_device() {
  if [[ -c $1 ]] && { : <>"$1"; } 2>/dev/null; then
    good "${1##*/}" "$1 can be opened"
  elif [[ -e $1 ]]; then
    "$2" "${1##*/}" "$1 cannot be opened by this user, and $3: chmod 666 $1"
  else
    "$2" "${1##*/}" "$1 is missing, and $3: modprobe ${1##*/}"
  fi
}

# try_overlay DIRECTORY: in a namespace; really mounted and written to.
try_overlay() {
  # shellcheck disable=SC2016 # expanded by the inner shell
  unshare --user --map-root-user --mount sh -ec 'cd "$1"; mkdir low up work all; echo low >low/file
    mount -t overlay overlay -o lowerdir=low,upperdir=up,workdir=work all
    echo up >all/file; test "$(cat low/file) $(cat up/file)" = "low up"; umount all' sh "$1"
}

check_overlay() {
  [[ -n $SG_CHECK_DIR ]] || return 0
  mkdir -- "$SG_CHECK_DIR/overlay"
  if quietly try_overlay "$SG_CHECK_DIR/overlay"; then
    good overlay "can be mounted in a user namespace, in $SG_NODE_DIR"
  elif has fuse-overlayfs; then
    doubtful overlay "cannot be mounted in a user namespace ($SG_SAID): engines take fuse-overlayfs, which is slow"
  else
    bad overlay "cannot be mounted in a user namespace in $SG_NODE_DIR: $SG_SAID (Linux 5.11 or later can; else install fuse-overlayfs)"
  fi
}

# check_network: of the namespaces of rootlesskit.
check_network() {
  local version
  program rootlesskit 1.0 rootlesskit || return 0
  version=$SG_VERSION
  if has slirp4netns; then
    program slirp4netns '' slirp4netns || true
  elif has pasta && at_least "$version" 2.0; then
    good pasta 'is there, in place of slirp4netns'
  elif has pasta; then
    bad slirp4netns "not found, and rootlesskit $version cannot use pasta: install slirp4netns"
  else
    bad slirp4netns 'not found: install slirp4netns (or, with rootlesskit 2, passt)'
  fi
  check_device /dev/net/tun bad 'the private network of a job needs it'
}

check_rootless() {
  check_namespaces
  check_subordinate_ids
  check_overlay
  check_network
}

check_dockerd() {
  program dockerd "$1" docker.io || true
  program docker '' docker.io || true
  program containerd '' containerd || true
  if has runc; then program runc '' runc || true; else program crun '' runc || true; fi
  program iptables '' iptables || true
  has perl || doubtful perl 'not found on PATH: the launcher needs it with podman before 4.6'
  check_device /dev/fuse doubtful 'fuse-overlayfs needs it, should overlay fail'
}

check_podman() {
  program podman 3.4 podman || true
  program conmon '' conmon || true
  if [[ $(stat -f -c %T /sys/fs/cgroup 2>/dev/null) == cgroup2fs ]] && has crun; then
    program crun '' crun || true
  else
    program runc '' runc || true
  fi
  check_device /dev/fuse doubtful 'fuse-overlayfs needs it, should overlay fail'
}

check_apptainer() {
  program apptainer 1.1 apptainer || return 0
  check_namespaces
  check_overlay
  has fuse-overlayfs || doubtful fuse-overlayfs 'not found: image files (SIF) and scratch need it'
  has squashfuse_ll || has squashfuse || doubtful squashfuse 'not found: image files (SIF) are mounted by it'
  check_device /dev/fuse doubtful 'image files (SIF) and scratch are mounted by it'
  [[ -z $SG_FAKEROOT ]] || check_subordinate_ids
  ((SG_SCRATCH_MB == 0)) || { has mkfs.ext3 && has fuse2fs; } || bad scratch 'mkfs.ext3 or fuse2fs is not found: install e2fsprogs, fuse2fs'
}

check_lazy() {
  if [[ $SG_SNAPSHOTTER == soci ]]; then
    program soci-snapshotter-grpc '' soci-snapshotter || true
  else
    program containerd-stargz-grpc '' stargz-snapshotter -version || true
  fi
  check_device /dev/fuse bad 'lazily pulled images are mounted by it'
}

check_nvidia() {
  [[ -n ${SG_NVIDIA:-} ]] || return 0
  if [[ ! -e /dev/nvidiactl ]]; then
    bad nvidia '/dev/nvidiactl is missing: the pool has nvidia = true, and this node no driver'
  elif has nvidia-smi && quietly timeout 30 nvidia-smi -L; then
    good nvidia "$SG_SAID"
  else
    bad nvidia "nvidia-smi does not work: ${SG_SAID:-not found}"
  fi
}
