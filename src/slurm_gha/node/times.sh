# shellcheck shell=bash disable=SC2034 # the files make one script, and share their variables
# How long each part of the start took, told in the Slurm job's output.

SG_BEGAN=0 # milliseconds

# begin_times: when, for whoever compares it with other clocks.
begin_times() {
  local digits
  now
  SG_BEGAN=$SG_NOW
  printf -v digits '%d.%03d' "$((SG_BEGAN / 1000))" "$((SG_BEGAN % 1000))"
  say "started at $digits"
}

# mark WHAT: that it has come about, and how long after the start. Helpers call it too.
mark() {
  local took digits
  now
  took=$((SG_NOW - SG_BEGAN))
  printf -v digits '%d.%03d' "$((took / 1000))" "$((took % 1000))"
  say "$1 after $digits s"
}
