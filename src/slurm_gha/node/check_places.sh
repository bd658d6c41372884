# shellcheck shell=bash disable=SC2034 # the files make one script, and share their variables
# Checks that have nothing to do with an engine: the shell, directories, names, the service, Slurm.

readonly SG_LONGEST_SOCKET=42 # "/e/docker/containerd/containerd.sock.ttrpc", in a job's directory
readonly SG_ROOM_NEEDED=1     # GB free in node_dir, and what is comfortable
readonly SG_ROOM_WISHED=10

check_shell() {
  local command missing=''
  local -a needed=(chmod cp date flock grep id ln mkdir mv readlink rm sleep stat tail)
  [[ -z $SG_CLAIMS && $SG_LAUNCHER == host ]] || needed+=(curl)
  if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404)); then
    bad bash "version $BASH_VERSION; 4.4 or later is needed"
  else
    good bash "version $BASH_VERSION"
  fi
  for command in "${needed[@]}"; do
    has "$command" || missing+=" $command"
  done
  if [[ -n $missing ]]; then
    bad commands "not found on PATH ($PATH):$missing"
  else
    good commands "found: ${needed[*]}"
  fi
  if ((EUID == 0)); then
    doubtful user "this check is run by root; run it as the user of the service, whose jobs the runners are"
  else
    good user "$(id -un 2>/dev/null || printf 'without a name') (uid $EUID)"
  fi
}

check_node_dir() {
  local kind length free
  if [[ ! -d $SG_NODE_DIR || ! -w $SG_NODE_DIR || ! -x $SG_NODE_DIR ]]; then
    bad node_dir "$SG_NODE_DIR is not a directory that this user can write to"
    return 0
  fi
  SG_NODE_DIR=$(cd -P -- "$SG_NODE_DIR" && pwd)
  # Not named like a job's: a sweep would take it for one.
  SG_CHECK_DIR=$(mktemp -d "$SG_NODE_DIR/sgc-XXXXXX" 2>/dev/null) || {
    SG_CHECK_DIR=
    bad node_dir "no directory can be made in $SG_NODE_DIR: is it full?"
    return 0
  }
  good node_dir "$SG_NODE_DIR is writable"
  kind=$(stat -f -c %T -- "$SG_NODE_DIR" 2>/dev/null) || kind=unknown
  case $kind in
    nfs* | lustre | gpfs | ceph | afs | smb* | cifs | fuse* | beegfs | panfs | v9fs | UNKNOWN* | unknown)
      if [[ $SG_LAUNCHER == host ]]; then
        doubtful node_dir "$SG_NODE_DIR is on $kind; a local disk is quicker, and its locks are sure"
      else
        bad node_dir "$SG_NODE_DIR is on $kind: container engines need a local disk"
      fi
      ;;
    *) good node_dir "on a local file system ($kind)" ;;
  esac
  printf '#!/bin/sh\nexit 0\n' >"$SG_CHECK_DIR/program"
  chmod 0700 "$SG_CHECK_DIR/program"
  "$SG_CHECK_DIR/program" 2>/dev/null ||
    bad node_dir "programs cannot be run from $SG_NODE_DIR: is it mounted noexec?"
  free=$(df -Pk -- "$SG_NODE_DIR" 2>/dev/null | while read -r _ _ _ free _; do printf '%s\n' "$free"; done | tail -n 1) || free=
  if [[ ! $free =~ ^[0-9]+$ ]]; then
    doubtful node_dir "how much room there is cannot be told"
  elif ((free / 1048576 < SG_ROOM_NEEDED)); then
    bad node_dir "$((free / 1024)) MB are free: too little for a runner"
  elif ((free / 1048576 < SG_ROOM_WISHED)); then
    doubtful node_dir "$((free / 1048576)) GB are free; runner, images and work of one job are often $SG_ROOM_WISHED GB"
  else
    good node_dir "$((free / 1048576)) GB are free"
  fi
  length=$((${#SG_NODE_DIR} + 14 + SG_LONGEST_SOCKET)) # "/sg-" and ten digits
  if [[ $SG_LAUNCHER != host ]] && ((length > 107)); then
    bad node_dir "its path is $((length - 107)) bytes too long for the sockets of an engine below it"
  fi
}

check_runner_dir() {
  if [[ -z $SG_RUNNER_DIR ]]; then
    [[ $SG_LAUNCHER != host ]] || doubtful runner_dir 'not known: name a pool to have it checked'
  elif [[ -x $SG_RUNNER_DIR/run.sh && -d $SG_RUNNER_DIR/bin ]]; then
    good runner_dir "$SG_RUNNER_DIR holds a runner"
  else
    bad runner_dir "$SG_RUNNER_DIR holds no unpacked actions/runner that this user can read: run.sh or bin is missing"
  fi
}

# check_names: of the hosts that a runner talks to.
check_names() {
  local host missing='' known=''
  for host in "${SG_HOSTS[@]}"; do
    if quietly timeout 10 getent ahosts "$host"; then known+=" $host"; else missing+=" $host"; fi
  done
  [[ -z $known ]] || good names "known:$known"
  [[ -z $missing ]] || bad names "not known to this node (DNS, /etc/hosts):$missing"
}

check_service() {
  local status
  local -a arguments=(--disable --silent --show-error --output /dev/null --write-out '%{http_code}' --max-time 10)
  [[ -n $SG_NODE_URL && -n $SG_CLAIMS ]] && has curl || return 0
  [[ -z $SG_CA_FILE ]] || arguments+=(--cacert "$SG_CA_FILE")
  if [[ -n $SG_CA_FILE && ! -r $SG_CA_FILE ]]; then
    bad node_url "the ca_file $SG_CA_FILE cannot be read on this node"
  elif ! quietly curl "${arguments[@]}" --proto '=http,https' "$SG_NODE_URL/healthz"; then
    bad node_url "$SG_NODE_URL cannot be reached: $SG_SAID"
  elif status=${SG_SAID##*[!0-9]} && [[ $status == 200 ]]; then
    good node_url "the service answers at $SG_NODE_URL"
  else
    bad node_url "$SG_NODE_URL/healthz answers with HTTP status ${status:-?}: is that the service?"
  fi
}

check_slurm() {
  local line epilog='' proctrack='' file installed=''
  if ! has scontrol || ! quietly timeout 20 scontrol show config; then
    doubtful slurm "its configuration cannot be read here (${SG_SAID:-no scontrol}): see to Epilog and ProctrackType yourself"
    return 0
  fi
  while IFS= read -r line; do
    if [[ $line =~ ^Epilog(\[[0-9]+\])?[[:space:]]*=[[:space:]]*(.*)$ ]]; then
      [[ ${BASH_REMATCH[2]} == '(null)' ]] || epilog+=" ${BASH_REMATCH[2]}"
    elif [[ $line =~ ^ProctrackType[[:space:]]*=[[:space:]]*(.*)$ ]]; then
      proctrack=${BASH_REMATCH[1]}
    fi
  done < <(timeout 20 scontrol show config 2>/dev/null </dev/null)
  if [[ $proctrack == proctrack/cgroup ]]; then
    good slurm "ProctrackType is $proctrack: no process outlives its job"
  else
    doubtful slurm "ProctrackType is ${proctrack:-unknown}: a process that hides its origin outlives its job; proctrack/cgroup ends all"
  fi
  if [[ -z ${epilog// /} ]]; then
    doubtful slurm 'no Epilog is set: what a killed runner leaves stays until the next one sweeps it (slurm-gha node epilog)'
    return 0
  fi
  # Epilogs may be patterns.
  # shellcheck disable=SC2086
  for file in $epilog; do
    [[ ! -r $file ]] || ! grep -qs '^# slurm-gha epilog' -- "$file" || installed=$file
  done
  if [[ -n $installed ]]; then
    good slurm "Epilog $installed is that of slurm-gha"
  else
    doubtful slurm "none of the Epilogs that this user can read is that of slurm-gha:$epilog"
  fi
}

check_images() {
  local image=${SG_IMAGE:-} path
  [[ $SG_LAUNCHER != host ]] || return 0
  if [[ $image == /cvmfs/* ]]; then
    # Appears when it is asked for; /cvmfs itself shows nothing.
    if quietly timeout 60 stat -- "$image/."; then
      good image "$image is there"
    else
      path=${image#/cvmfs/}
      bad image "$image cannot be seen: $SG_SAID (does this node mount /cvmfs/${path%%/*}?)"
    fi
  elif [[ $image == /* ]]; then
    if [[ -r $image ]]; then good image "$image can be read"; else bad image "$image cannot be read by this user"; fi
  fi
  [[ -n $SG_IMAGES_DIR ]] || return 0
  if [[ ! -r $SG_IMAGES_DIR/names || ! -x $SG_IMAGES_DIR/names ]]; then
    bad images "the catalogue $SG_IMAGES_DIR cannot be read by this user"
    return 0
  fi
  good images "the catalogue $SG_IMAGES_DIR can be read"
  [[ $image =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ ]] || return 0
  SG_IMAGE_HOME=$(readlink -e -- "$SG_IMAGES_DIR/names/$image") || SG_IMAGE_HOME=
  if [[ ! ${SG_IMAGE_HOME##*/} =~ ^[0-9a-f]{64}$ ]]; then
    SG_IMAGE_HOME=
    doubtful image "the catalogue has no image '$image': jobs take it for a reference, and pull it"
    return 0
  fi
  SG_IMAGE_DIGEST=${SG_IMAGE_HOME##*/}
  good image "$image is ${SG_IMAGE_DIGEST:0:12} of the catalogue"
}

# check_store: whether jobs will use it.
check_store() {
  local why='' place fits form
  case $SG_LAUNCHER in
    docker) form=store.env place=$SG_STORES_DIR/${SG_IMAGE_DIGEST:-} fits=store_fits ;;
    podman) form=podman.env place=${SG_IMAGE_HOME:-}/podman fits=podman_store_fits ;;
    *) return 0 ;;
  esac
  [[ -n $SG_IMAGE_HOME && -r $SG_IMAGE_HOME/$form ]] || return 0
  if "$fits" "$place"; then
    good store "$place is there, and fits this node's engine and user"
  else
    bad store "jobs cannot use it, and get the image in a slower way: $why"
  fi
}

check_mirrors() {
  local pair since
  for pair in "${SG_MIRRORS[@]}"; do
    now
    since=$SG_NOW
    if mirror_answers "${pair#*=}"; then
      seconds_since "$since"
      good mirror "${pair#*=} of ${pair%%=*} answers within $SG_SECONDS s"
    else
      doubtful mirror "${pair#*=} of ${pair%%=*} $SG_MIRROR_SAYS: jobs pull from ${pair%%=*} itself"
    fi
  done
}
