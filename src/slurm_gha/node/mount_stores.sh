# shellcheck shell=bash disable=SC2034 # the files make one script, and share their variables
# The read-only stores of images, mounted on this node by root: each that a name of the catalogue points to, and none that
# nobody needs any more. For boot, a timer, or Slurm's Prolog.
#
# The catalogue belongs to the service's user, so links in it are read and not followed, and what was attached is checked to
# be that user's own file before it is mounted.

readonly SG_STORES_PATIENCE=120 # seconds to wait for another run of this script
SG_NODE=${SLURMD_NODENAME:-${HOSTNAME:-?}}
SG_OWNER=  # uid of the catalogue's owner
SG_WRONG=0 # how many stores could not be mounted
SG_FILE=   # of the store looked at, with its format and identity
SG_FORMAT=
SG_IDENTITY=
declare -A SG_NAMES=()   # by digest: a name that points to it
declare -A SG_MOUNTED=() # by mount point: the device

mount_stores() {
  local lock digest point
  PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
  export PATH
  umask 022
  cd /
  # Slurm drains a node whose Prolog fails, and jobs can do without a store.
  [[ -z ${SLURM_JOB_ID:-} ]] || trap 'exit 0' EXIT
  ((EUID == 0)) || fail 77 'stores are mounted by root'
  make_stores_dir
  { exec {lock}>"$SG_STORES_DIR/.lock"; } || fail 73 "$SG_STORES_DIR/.lock cannot be written"
  flock -w "$SG_STORES_PATIENCE" "$lock" || fail 75 "another run of this has not ended in $SG_STORES_PATIENCE s"
  # Unknown is not gone: a catalogue that cannot be read leaves everything mounted.
  if ! SG_OWNER=$(stat -c %u -- "$SG_IMAGES_DIR/names/." 2>/dev/null) || ! ls -- "$SG_IMAGES_DIR/names" >/dev/null 2>&1; then
    fail 66 "the catalogue $SG_IMAGES_DIR cannot be read on node $SG_NODE; nothing is changed"
  fi
  read_names
  read_mounts
  for digest in "${!SG_NAMES[@]}"; do
    find_store "$digest" || continue
    need_store "$digest" {lock}>&- || SG_WRONG=$((SG_WRONG + 1))
  done
  for point in "${!SG_MOUNTED[@]}"; do
    digest=${point##*/}
    if [[ -z ${SG_NAMES[$digest]:-} ]] || ! find_store "$digest"; then retire_store "$digest" || true; fi
  done
  ((SG_WRONG == 0)) || fail 1 "$SG_WRONG of the stores could not be mounted on node $SG_NODE"
}

make_stores_dir() {
  local state
  mkdir -p -- "$SG_STORES_DIR" || fail 73 "$SG_STORES_DIR cannot be made on node $SG_NODE"
  SG_STORES_DIR=$(cd -P -- "$SG_STORES_DIR" && pwd)
  state=$(stat -c '%u %A' -- "$SG_STORES_DIR")
  [[ $state == '0 d'????-??-? ]] || fail 73 "$SG_STORES_DIR must belong to root and be closed to other writers"
}

# read_names: names/NAME is a link to ../DIGEST, and nothing else counts.
read_names() {
  local link target
  shopt -s nullglob
  for link in "$SG_IMAGES_DIR"/names/*; do
    target=$(readlink -- "$link") || continue
    [[ ${link##*/} =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ && $target =~ ^\.\./([0-9a-f]{64})$ ]] || continue
    SG_NAMES[${BASH_REMATCH[1]}]=${link##*/}
  done
}

# read_mounts: what is mounted in the directory of stores; of several on one another, the last is the uppermost.
read_mounts() {
  local point fields device
  SG_MOUNTED=()
  while read -r _ _ _ _ point fields; do
    [[ $point == "$SG_STORES_DIR"/* && ${point##*/} =~ ^[0-9a-f]{64}$ ]] || continue
    # proc(5): any number of fields, a hyphen, then type and source
    read -r _ device _ <<<"${fields#* - }"
    SG_MOUNTED[$point]=$device
  done </proc/self/mountinfo
}

# find_store DIGEST: its file into SG_FILE, if it has a store.
find_store() {
  for SG_FORMAT in erofs squashfs; do
    SG_FILE=$SG_IMAGES_DIR/$1/store.$SG_FORMAT
    [[ ! -e $SG_FILE && ! -L $SG_FILE ]] || return 0
  done
  SG_FILE='' SG_FORMAT=''
  return 1
}

# need_store DIGEST: mounted, from the file that is there now.
need_store() {
  local point=$SG_STORES_DIR/$1 device
  device=${SG_MOUNTED[$point]:-}
  own_file "$SG_FILE" || return
  if [[ -n $device ]]; then
    if [[ $(backing_of "$device") == "$SG_IDENTITY" ]]; then
      rm -f -- "$SG_STORES_DIR/.unneeded-$1"
      return 0
    fi
    # Made anew, for another engine perhaps: jobs that have the old one keep it until they end.
    retire_store "$1" || return 0
  fi
  mount_store "$point" "${SG_NAMES[$1]}"
}

# own_file FILE: a plain file of the catalogue's owner; what identifies it into SG_IDENTITY.
own_file() {
  local state device inode
  state=$(stat -c '%u %D %i %F' -- "$1" 2>/dev/null) || state=
  if [[ $state != "$SG_OWNER "*' regular '*file ]]; then
    say "$1 is not mounted: it is no plain file of uid $SG_OWNER, who owns the catalogue, or cannot be read"
    return 1
  fi
  read -r _ device inode _ <<<"$state"
  device=$((16#$device))
  # As losetup writes it: major:minor, from the kernel's 12 and 20 bits.
  SG_IDENTITY="$inode $(((device >> 8) & 0xfff)):$(((device & 0xff) | ((device >> 12) & 0xfff00)))"
}

# backing_of DEVICE: identity of the file behind a loop device.
backing_of() {
  local inode device
  read -r inode device < <(losetup --list --noheadings --output BACK-INO,BACK-MAJ:MIN -- "$1" 2>/dev/null) || return 0
  printf '%s %s' "$inode" "$device"
}

# mount_store POINT NAME: attached first, and looked at again: the path may have been turned elsewhere in the meantime.
mount_store() {
  local device said made=''
  if ! device=$(timeout 60 losetup --find --show --read-only -- "$SG_FILE" 2>"$SG_STORES_DIR/.said"); then
    said=$(<"$SG_STORES_DIR/.said")
    say "$SG_FILE (image $2) is not mounted: ${said//$'\n'/ }"
    return 1
  fi
  if ! own_file "$SG_FILE" || [[ $(backing_of "$device") != "$SG_IDENTITY" ]]; then
    losetup --detach "$device"
    say "$SG_FILE (image $2) is not mounted: it is being replaced"
    return 1
  fi
  [[ -d $1 ]] || made=yes
  if mkdir -p -- "$1" && said=$(mount -t "$SG_FORMAT" -o ro,nodev,nosuid -- "$device" "$1" 2>&1); then
    # Detached when it is unmounted.
    losetup --detach "$device"
    say "$1 is mounted (image $2)"
    return 0
  fi
  losetup --detach "$device"
  [[ -z $made ]] || rmdir -- "$1" 2>/dev/null || true
  said=${said//"$1: "/}
  say "$SG_FILE (image $2) is not mounted: ${said//$'\n'/ }"
  return 1
}

# retire_store DIGEST: unmount it, once no job is left that began while it was needed: jobs link to its files.
retire_store() {
  local mark=$SG_STORES_DIR/.unneeded-$1 since directory made
  [[ -e $mark ]] || : >"$mark"
  since=$(stat -c %Y -- "$mark")
  for directory in "$SG_NODE_DIR"/sg-*; do
    [[ $(stat -c '%u %F' -- "$directory" 2>/dev/null) == "$SG_OWNER directory" ]] || continue
    # Some file systems do not know when a directory was made (0, or nothing).
    made=$(stat -c %W -- "$directory" 2>/dev/null) || continue
    [[ $made =~ ^[1-9][0-9]*$ ]] && ((made > since)) || return 1
  done
  umount -- "$SG_STORES_DIR/$1" 2>/dev/null || return 1
  rmdir -- "$SG_STORES_DIR/$1" 2>/dev/null || true
  rm -f -- "$mark"
  say "$SG_STORES_DIR/$1 is unmounted: no name points to it, or it was made anew"
}

mount_stores
