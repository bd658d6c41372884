# shellcheck shell=bash disable=SC2034 # the files make one script, and share their variables
# What the rest may rely on: a Slurm job, the commands needed, PATH, HOME, a private umask.

prepare_environment() {
  umask 077
  # Without a PATH in its environment, bash makes one up that its children do not see.
  if [[ $(declare -p PATH 2>/dev/null) != 'declare -x'* ]]; then
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
  fi
  PATH=${SG_NODE_PATH:+$SG_NODE_PATH:}$PATH
  export PATH
  if [[ -z ${HOME:-} ]]; then
    unset -v HOME
    HOME=~ # of the password database, as HOME is unset
  fi
  export HOME
  if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404)); then
    fail "$SG_EXIT_NODE" "bash $BASH_VERSION is too old: 4.4 or later is needed"
  fi
  if [[ ! ${SLURM_JOB_ID:-} =~ ^[0-9]+$ ]]; then
    fail "$SG_EXIT_USAGE" "SLURM_JOB_ID is not set: this script is for sbatch"
  fi
  SG_SLURM_ID=$SLURM_JOB_ID
  # Tells what this start has started from what another start of the same Slurm job has.
  export SLURM_GHA_START=$$.$RANDOM$RANDOM
  SG_CLUSTER=${SLURM_CLUSTER_NAME:-}
  SG_NODE=${SLURMD_NODENAME:-$HOSTNAME}
  local needed command
  needed=(chmod cp date flock grep ln mkdir mv readlink rm sleep stat)
  [[ $SG_HANDOVER != claim ]] || needed+=(curl)
  for command in "${needed[@]}"; do
    command -v "$command" >/dev/null ||
      fail "$SG_EXIT_NODE" "node $SG_NODE has no command '$command' on PATH ($PATH)"
  done
}
