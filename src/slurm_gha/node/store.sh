# shellcheck shell=bash disable=SC2034 # the files make one script, and share their variables
# A read-only store: the data-root of a daemon that has the image, mounted once a node. The job's daemon gets links to its
# layers. That is the layout of Docker's overlay2 and no interface: only the same engine, for the same user, may use it.

# seed_store: link the store into the data-root of the daemon to come; one line if that cannot be.
seed_store() {
  local mount why=''
  [[ -n $SG_IMAGE_HOME && -r $SG_IMAGE_HOME/store.env ]] || return 1
  mount=$SG_STORES_DIR/$SG_IMAGE_DIGEST
  if store_fits "$mount" && link_store "$mount"; then return 0; fi
  rm -rf -- "$SG_ENGINE/data"
  mkdir -- "$SG_ENGINE/data"
  say "image $SG_IMAGE: its store is not used, since ${why:-it could not be linked}; getting the image in another way"
  return 1
}

# store_fits MOUNT: whether this engine, as this user, can use it; else the reason into $why.
store_fits() {
  local wanted
  if [[ ! -d $1/overlay2 || ! -d $1/image/overlay2 ]]; then
    why="it is not mounted at $1 on node $SG_NODE"
    return 1
  fi
  image_value store.env ENGINE_VERSION || true
  wanted=$SG_VALUE
  if [[ $wanted != "$(dockerd_version)" ]]; then
    why="it was made by dockerd $wanted, and node $SG_NODE has $(dockerd_version)"
    return 1
  fi
  made_for_this_user store.env
}

# made_for_this_user FILE: whether the store that FILE of the image describes has files of this user's ids, which are written
# into it; else the reason into the caller's why.
made_for_this_user() {
  local range
  image_value "$1" UID || true
  if [[ $SG_VALUE != "$EUID" ]]; then
    why="it was made for uid $SG_VALUE, and this is uid $EUID"
    return 1
  fi
  image_value "$1" SUBUID || true
  range=$(subordinate_base)
  if [[ $SG_VALUE != "$range" ]]; then
    why="it was made for subordinate ids from $SG_VALUE on, and here they begin at ${range:-none}"
    return 1
  fi
}

dockerd_version() {
  local said
  said=$(dockerd --version 2>/dev/null) || said=
  [[ $said =~ version\ ([^,[:space:]]+) ]] && printf '%s' "${BASH_REMATCH[1]}"
}

# link_store MOUNT: the daemon writes into a layer's directory ("committed", "work") but never into its files. As few commands
# as can be, for all layers together: this stands before the start of the daemon.
link_store() {
  local store=$1 data=$SG_ENGINE/data layer name
  local -a layers=() files=()
  for layer in "$store"/overlay2/*/; do
    layer=${layer%/}
    name=${layer##*/}
    [[ $name != l ]] || continue
    layers+=("$data/overlay2/$name")
    for name in link lower committed; do
      [[ ! -e $layer/$name ]] || files+=("${layer##*/}/$name")
    done
  done
  mkdir -m 0711 -- "$data/overlay2" || return
  cp -a -- "$store/image" "$data/image" || return
  cp -a -- "$store/overlay2/l" "$data/overlay2/l" || return
  chmod -R u+w -- "$data/image" "$data/overlay2/l" || return
  mkdir -m 0710 -- "${layers[@]}" "${layers[@]/%//work}" || return
  (cd -- "$store/overlay2" && exec cp --parents -t "$data/overlay2" -- "${files[@]}") || return
  for layer in "${layers[@]}"; do
    ln -s -- "$store/overlay2/${layer##*/}/diff" "$layer/diff" || return
  done
}
