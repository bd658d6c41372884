#!/bin/sh
# The steps of a publication that are more than one command. Runs on the stratum 0: sh -c THIS sh VERB ARGUMENT…
# Exit codes from 90 on are this script's own; smaller ones are those of cvmfs_server. It never stands in the repository.
#
#   SERVER   the program cvmfs_server        REPO   the repository's name
#   MOUNT    /cvmfs/REPO                     SPOOL  /var/spool/cvmfs/REPO, where rdonly is the published revision
#   PREFIX   directory of images inside      TOKEN  a word that no other transaction has
#
# A transaction is ours if PREFIX/.transaction begins with our token in the open tree, and is another in the published one.
set -u
umask 022
cd / || exit 90

verb=$1 server=$2 repo=$3 mount=$4 spool=$5 prefix=$6 token=$7
shift 7
images=$mount/$prefix
published=$spool/rdonly/$prefix
kept=${TMPDIR:-/var/tmp}/slurm-gha-cvmfs.$token

token_in() {
  head -n 1 "$1/.transaction" 2>/dev/null
}

ours() {
  [ "$(token_in "$images")" = "$token" ] && ! cmp -s "$images/.transaction" "$published/.transaction"
}

# Ours or nothing: everything that changes, publishes or ends a transaction passes here first.
insist() {
  ours || {
    echo 'the open transaction is not ours' >&2
    exit 92
  }
}

discard() {
  "$server" abort -f "$repo" </dev/null
}

case $verb in
  # Open a transaction and sign it.
  open)
    "$server" transaction "$repo" </dev/null || exit $?
    if ! [ -d "$spool/rdonly" ]; then
      discard
      echo "$spool/rdonly is no directory" >&2
      exit 91
    fi
    if ! { mkdir -p "$images/names" && printf '%s\n' "$token" >"$images/.transaction"; }; then
      discard
      exit 93
    fi
    ;;
  # Unpack the archive on standard input under a temporary name.
  unpack)
    insist
    mkdir "$images/.new-$token" || exit 94
    tar -x -p --no-same-owner -C "$images/.new-$token" -f - || exit 94
    ;;
  # Give the unpacked tree its name, and move an image's name to it: DIGEST NAME (either may be empty).
  seal)
    insist
    digest=$1 name=$2
    if [ -n "$digest" ] && [ -d "$images/.new-$token" ]; then
      [ -e "$images/.new-$token/.cvmfscatalog" ] || exit 94
      mv -T "$images/.new-$token" "$images/$digest" || exit 94
    fi
    if [ -n "$name" ]; then
      [ -e "$images/$digest/.cvmfscatalog" ] || exit 94
      ln -s "../$digest" "$images/names/.new-$token" &&
        mv -T "$images/names/.new-$token" "$images/names/$name" || exit 94
    fi
    ;;
  # Remove images: DIGEST…
  remove)
    insist
    for digest; do
      rm -rf "${images:?}/$digest" || exit 94
    done
    ;;
  # Publish what is sealed.
  publish)
    insist
    exec "$server" publish "$repo" </dev/null
    ;;
  # Make a broken transaction usable again; its changes stay. They may be published already, if the publish was killed
  # at its very end: a line more keeps the transaction ours.
  repair)
    insist
    "$server" mount "$repo" </dev/null || exit $?
    echo repaired >>"$images/.transaction" || exit 93
    ;;
  abort)
    insist
    discard
    ;;
  # Whose is the transaction that carries the token?
  whose)
    if ! [ -d "$spool/rdonly" ]; then
      echo unknown
    elif ours; then
      echo ours
    elif [ "$(token_in "$published")" = "$token" ]; then
      echo published
    else
      echo none
    fi
    ;;
  # Is a transaction open that an earlier publication of ours has left? Tokens of ours begin with one word: OWNER.
  leftover)
    token=$(token_in "$images")
    case $token in
      "$1".*) ! ours || printf 'leftover %s\n' "$token" ;;
    esac
    ;;
  # What is published: the revision, the images with their times, the names.
  list)
    [ -d "$spool/rdonly" ] || {
      echo "$spool/rdonly is no directory" >&2
      exit 91
    }
    revision=$(getfattr -n user.revision --only-values --absolute-names "$spool/rdonly" 2>/dev/null)
    printf 'revision %s\n' "$revision"
    for mark in "$published"/*/.cvmfscatalog; do
      [ -f "$mark" ] || continue
      digest=${mark%/.cvmfscatalog}
      printf 'image %s %s\n' "${digest##*/}" "$(stat -c %Y "$mark")"
    done
    for link in "$published"/names/*; do
      [ -L "$link" ] || continue
      printf 'name %s %s\n' "${link##*/}" "$(readlink "$link")"
    done
    ;;
  # Keep the archive on standard input in a file, and say how long it is.
  receive)
    mkdir -m 0700 "$kept" || exit 95
    cat >"$kept/tree.tar" || exit 95
    stat -c 'kept %s' "$kept/tree.tar"
    ;;
  # Publish the archive kept by `receive`: DIRECTORY.
  ingest)
    exec "$server" ingest -t "$kept/tree.tar" -b "$1" -c "$repo" </dev/null
    ;;
  # Remove the file kept by `receive`.
  forget)
    rm -rf "$kept"
    ;;
  *)
    echo "no such step: $verb" >&2
    exit 90
    ;;
esac
