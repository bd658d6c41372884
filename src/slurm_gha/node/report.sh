# shellcheck shell=bash disable=SC2034 # the files make one script, and share their variables
# Word to the service on how the runner fares: best effort, by a helper of its own, in order.

SG_REPORTS=
SG_REPORTER=
readonly SG_MOST_REPORTS=30

start_reporter() {
  [[ -n $SG_REPORT_TOKEN ]] || return 0
  exec {SG_REPORTS}> >(send_reports)
  SG_REPORTER=$!
}

# report EVENT [DETAIL]: queued in the pipe; never waits for the network.
report() {
  local at detail=${2:-}
  [[ -n $SG_REPORTS ]] || return 0
  printf -v at '%(%s)T' -1
  detail=${detail//[[:cntrl:]]/ }
  { printf '%s %s %s\n' "$1" "$at" "${detail:0:200}" >&"$SG_REPORTS"; } 2>/dev/null || true
}

send_reports() {
  local event at detail try sent=0
  ignore_signals
  trap - EXIT
  [[ -z $SG_LOCK ]] || exec {SG_LOCK}>&-
  while IFS=' ' read -r event at detail; do
    ((++sent <= SG_MOST_REPORTS)) || [[ $event == ended ]] || continue
    for try in 1 2 3; do
      curl_config report "$SG_REPORT_TOKEN" "event=$event" "at=$at" "detail=$detail" |
        (call_curl --fail --max-time 5) >/dev/null 2>&1 && break
      # Only the last word is worth another try.
      [[ $event == ended && $try -lt 3 ]] || break
      sleep 0.3
    done
  done
  return 0
}

# end_reporter MILLISECONDS: let it send what is queued.
end_reporter() {
  [[ -n $SG_REPORTER ]] || return 0
  exec {SG_REPORTS}>&-
  SG_REPORTS=
  await_end "$SG_REPORTER" "$1" || end_helper "$SG_REPORTER"
  SG_REPORTER=
}
