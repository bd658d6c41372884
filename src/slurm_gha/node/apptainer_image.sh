# shellcheck shell=bash disable=SC2034 # the files make one script, and share their variables
# Which form of its image Apptainer starts: a directory, a SIF file, or what is first made of a registry's image.

SG_IMAGE_PATH=      # a directory or a SIF file on the node
SG_IMAGE_SOURCES=() # or what it is to be made of: the first that works
SG_GETTER=

# choose_form: of an image of the catalogue, the form that starts fastest.
choose_form() {
  local path
  if [[ $SG_IMAGE == /* ]]; then
    there "$SG_IMAGE" ||
      fail "$SG_EXIT_IMAGE" "image $SG_IMAGE is not there on node $SG_NODE, or user $(id -un) may not read it"
    SG_IMAGE_PATH=$SG_IMAGE
    return 0
  fi
  find_image
  if [[ -z $SG_IMAGE_HOME ]]; then
    registry_source "${SG_IMAGE#docker://}"
    return 0
  fi
  if [[ -r $SG_IMAGE_HOME/unpacked.env ]] && there "$SG_IMAGE_HOME/unpacked"; then
    SG_IMAGE_PATH=$SG_IMAGE_HOME/unpacked
    return 0
  fi
  if image_value cvmfs.env PATH_IN_CVMFS; then
    path=$SG_VALUE
    [[ $path == /* ]] || path=/cvmfs/$path
    if there "$path"; then
      SG_IMAGE_PATH=$path
      return 0
    fi
    say "image $SG_IMAGE is not at $path on node $SG_NODE; getting it in another way"
  fi
  if [[ -r $SG_IMAGE_HOME/sif.env ]] && there "$SG_IMAGE_HOME/image.sif"; then
    SG_IMAGE_PATH=$SG_IMAGE_HOME/image.sif
    return 0
  fi
  if image_value image.env PULL; then registry_source "$SG_VALUE"; fi
  [[ ! -r $SG_IMAGE_HOME/archive.tar ]] || SG_IMAGE_SOURCES+=("docker-archive:$SG_IMAGE_HOME/archive.tar")
  ((${#SG_IMAGE_SOURCES[@]} > 0)) ||
    fail "$SG_EXIT_IMAGE" "image $SG_IMAGE ($SG_IMAGE_HOME) is there in no form that Apptainer can use; publish it with --to unpacked, sif or cvmfs"
}

# there PATH: whether it is readable. Under autofs, asking for a path mounts its repository, which may take a while; a
# listing of what is above it would not.
there() {
  stat --format= -- "$1" >/dev/null 2>&1 {SG_LOCK}>&- &
  attend "$!" TERM
  end_if_stopped
  [[ $SG_STATUS -eq 0 && -r $1 ]]
}

# registry_source REFERENCE: through a mirror of its registry where there is one, otherwise directly.
registry_source() {
  local host
  registry_of "$1"
  if find_mirror "$SG_REGISTRY"; then
    host=${SG_MIRROR_URL#*://}
    SG_IMAGE_SOURCES+=("${SG_MIRROR_URL%%://*}:docker://${host%%/*}/$SG_REPOSITORY")
  fi
  SG_IMAGE_SOURCES+=("https:docker://$1")
}

# get_image_early: in the background, while the claim goes on.
get_image_early() {
  [[ -z $SG_IMAGE_PATH ]] || return 0
  set -m
  become_getter &
  SG_GETTER=$!
  set +m
}

# become_getter: a directory is made, and no SIF file: packing one takes longer than all the rest.
become_getter() {
  local source
  local -a arguments
  trap - EXIT
  exec </dev/null {SG_LOCK}>&-
  SG_SECRET=
  export APPTAINER_TMPDIR=$SG_JOB_DIR/tmp APPTAINER_CACHEDIR=$SG_JOB_DIR/cache
  for source in "${SG_IMAGE_SOURCES[@]}"; do
    arguments=(--quiet build --force --sandbox --disable-cache)
    # Without subordinate ids, all files become the user's own, which serves as well.
    case $source in
      http:*) arguments+=(--no-https) ;;
    esac
    source=${source#http:}
    source=${source#https:}
    if apptainer "${arguments[@]}" "$SG_JOB_DIR/image" "$source" >"$SG_JOB_DIR/image.log" 2>&1; then exit 0; fi
    tail -n 5 -- "$SG_JOB_DIR/image.log" >&2
    say "image $SG_IMAGE could not be had from $source (see above)"
  done
  exit "$SG_EXIT_IMAGE"
}

# await_image: end if the getter could not get it.
await_image() {
  [[ -n $SG_GETTER ]] || return 0
  attend "$SG_GETTER" TERM
  SG_GETTER=
  end_if_stopped
  ((SG_STATUS == 0)) || fail "$SG_EXIT_IMAGE" "image $SG_IMAGE cannot be used on node $SG_NODE (see above)"
  SG_IMAGE_PATH=$SG_JOB_DIR/image
  mark 'image there'
}

# end_getter: with all that it has started.
end_getter() {
  [[ -n $SG_GETTER ]] || return 0
  kill -KILL -- "-$SG_GETTER" 2>/dev/null || true
  end_helper "$SG_GETTER"
  SG_GETTER=
}
