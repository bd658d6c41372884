#!/bin/bash -p
set -euo pipefail
# Nothing inherited may mark what follows for export, or print it.
set +o allexport +o xtrace +o verbose
unset -v BASH_XTRACEFD "${!SG_@}"
SG_NAME='sg-uni1-small-k3x9'
SG_HANDOVER='claim'
SG_RUNNER_DIR='/opt/actions-runner'
SG_NODE_DIR='/tmp'
SG_NODE_URL='https://head.cluster.example:8480'
SG_CA_FILE='/etc/ssl/certs/cluster-ca.pem'
SG_CLAIM_PATIENCE='300'
SG_STOP_AFTER_WARNING='50'
SG_STOP_AFTER_CANCEL='24'
SG_SECRET='c2VjcmV0LWZvci1vbmUtY2xhaW0'
SG_NODE_PATH=''
SG_ENVIRONMENT=('GREETING=it'\''s a "test"; $(reboot) `reboot` \' 'TZ=Europe/Berlin')
