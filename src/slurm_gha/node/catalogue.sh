# shellcheck shell=bash disable=SC2034 # the files make one script, and share their variables
# Which image the pool means: a name of the catalogue, whose directory holds it in several forms, or a reference.

SG_IMAGE_HOME=   # the image's directory in the catalogue, if it is one of the catalogue's
SG_IMAGE_DIGEST= # its digest
SG_VALUE=
readonly SG_EXIT_IMAGE=74 # the image cannot be had

find_image() {
  local home
  [[ -n $SG_IMAGES_DIR && $SG_IMAGE =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ ]] || return 0
  home=$(readlink -e -- "$SG_IMAGES_DIR/names/$SG_IMAGE") || home=
  if [[ ! ${home##*/} =~ ^[0-9a-f]{64}$ ]]; then
    say "the catalogue $SG_IMAGES_DIR has no image '$SG_IMAGE' on node $SG_NODE; taking it for a reference"
    return 0
  fi
  SG_IMAGE_HOME=$home SG_IMAGE_DIGEST=${home##*/}
  if image_value image.env RUNNER_DIR; then SG_IMAGE_RUNNER=$SG_VALUE; fi
  mark_image_used
}

# image_value FILE KEY: a value of a file of the image, into SG_VALUE.
image_value() {
  local line
  SG_VALUE=
  [[ -n $SG_IMAGE_HOME && -r $SG_IMAGE_HOME/$1 ]] || return 1
  while IFS= read -r line || [[ -n $line ]]; do
    [[ $line == "$2="* ]] || continue
    SG_VALUE=${line#*=}
    [[ -n $SG_VALUE ]]
    return
  done <"$SG_IMAGE_HOME/$1"
  return 1
}

# mark_image_used: what is in use is not collected. Where the catalogue is read-only, age alone protects.
mark_image_used() {
  local uses=$SG_IMAGES_DIR/uses/$SG_IMAGE_DIGEST
  [[ -w $SG_IMAGES_DIR ]] || return 0
  { mkdir -p -- "$uses" && : >"$uses/${SG_CLUSTER:-cluster}.$SG_SLURM_ID"; } 2>/dev/null || true
}

# unmark_image
unmark_image() {
  [[ -z $SG_IMAGE_DIGEST ]] ||
    rm -f -- "$SG_IMAGES_DIR/uses/$SG_IMAGE_DIGEST/${SG_CLUSTER:-cluster}.$SG_SLURM_ID" 2>/dev/null || true
}
