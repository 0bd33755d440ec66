#!/bin/sh
# The verbs of a phantom PBX: sh pbx.sh VERB. What was asked is written down; the last line printed is the proof.
set -eu
cd '@DIR@'
[ "$1" = status ] || echo "$1" >>verbs
case $1 in
reload)
  while [ -e slow ]; do sleep 0.02; done
  : >serving
  ;;
passive | stop_accepting) rm -f serving trunk ;;
register_trunks) : >trunk ;;
unregister_trunks) rm -f trunk ;;
drain) ;;
status)
  serving=false && trunk=down
  if [ -e serving ]; then serving=true; fi
  if [ -e trunk ]; then trunk=up; fi
  echo "{\"serving\": $serving, \"registrations\": 0, \"calls\": 0, \"trunks\": [{\"name\": \"carrier\", \"state\": \"$trunk\"}]}"
  exit 0
  ;;
esac
echo "$1 done"
