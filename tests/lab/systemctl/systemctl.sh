#!/bin/sh
# Answers as systemctl of systemd 252 does (words and exit codes were recorded from it); units are by name:
# pbx.service is the command given in @START@ and @STOP@, and failed once @ALIVE@ does not succeed; the others fail each in its own way.
STATE='@STATE@'
verb= unit=
for word in "$@"; do
  case $word in
  --) ;;
  -*) ;;
  *) if [ -z "$verb" ]; then verb=$word; else unit=$word; fi ;;
  esac
done
echo "$verb $unit" >>"$STATE.calls"
is() {
  state=$(cat "$STATE" 2>/dev/null || echo inactive)
  if [ "$state" = active ] && ! { @ALIVE@; }; then state=failed; fi
  echo "$state"
}
show() { printf 'Result=%s\nLoadState=%s\nActiveState=%s\n' "$1" "$2" "$3"; }
case $verb:$unit in
show:missing.service) show success not-found inactive ;;
show:masked.service) show success masked inactive ;;
show:bad.service) show success bad-setting inactive ;;
show:crash.service) show exit-code loaded failed; echo ExecMainStatus=7 ;;
show:slow.service) if [ -e "$STATE.slow" ]; then show success loaded activating; else show success loaded inactive; fi ;;
show:stuck.service) show success loaded active ;;
show:hang.service) exec sleep 60 ;;
show:nobus.service)
  printf 'System has not been booted with systemd as init system (PID 1). Can'"'"'t operate.\nFailed to connect to bus: Host is down\n' >&2
  exit 1
  ;;
show:limit.service) if [ -e "$STATE.started" ]; then show success loaded active; elif [ -e "$STATE.reset" ]; then show success loaded inactive; else show start-limit-hit loaded failed; fi ;;
reset-failed:limit.service) : >"$STATE.reset" ;;
reset-failed:denied.service)
  printf 'Failed to reset failed state of unit denied.service: Access denied\n' >&2
  exit 1
  ;;
reset-failed:*) ;;
start:limit.service)
  if [ -e "$STATE.reset" ]; then : >"$STATE.started"; exit 0; fi
  printf 'Job for limit.service failed.\nSee "systemctl status limit.service" and "journalctl -xeu limit.service" for details.\n' >&2
  exit 1
  ;;
show:pbx.service) show success loaded "$(is)" ;;
show:*) show success loaded inactive ;;
start:denied.service)
  printf 'Failed to start denied.service: Access denied\nSee system logs and '"'"'systemctl status denied.service'"'"' for details.\n' >&2
  exit 4
  ;;
start:crash.service)
  printf 'Job for crash.service failed because the control process exited with error code.\nSee "systemctl status crash.service" and "journalctl -xeu crash.service" for details.\n' >&2
  exit 1
  ;;
reset-failed:*) ;;
start:cond.service) ;; # systemd 252 exits 0 when a condition did not hold
start:slow.service) : >"$STATE.slow"; exec sleep 60 ;;
stop:stuck.service) ;;
start:pbx.service) if [ "$(is)" != active ]; then @START@; echo active >"$STATE"; fi ;;
stop:pbx.service) { @STOP@; echo inactive >"$STATE"; } ;;
*) echo "Failed to $verb $unit: not recorded" >&2; exit 1 ;;
esac
