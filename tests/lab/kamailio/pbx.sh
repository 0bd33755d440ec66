#!/bin/sh
# The verbs of the driver `command` for the Kamailio of a test: sh pbx.sh VERB
# @NAMES@ are filled in by tests/lab/kamailio.rs. The last line printed is the proof.
set -eu
DIR='@DIR@'
WORK='@WORK@'
TRUNKS='@TRUNKS@'
ctl() { kamcmd -s "unixs:$DIR/ctl" "$@" 2>&1; }

# A killed main process leaves its children serving: the whole process group counts. Zombies do not.
members() {
  [ -s "$DIR/pgid" ] || return 0
  ps -eo pgid=,pid=,stat=,comm= | awk -v g="$(cat "$DIR/pgid")" '$1 == g && $3 !~ /^Z/ && $4 == "kamailio" { print $2 }'
}

answers() { [ -n "$(members)" ] && ctl core.uptime >/dev/null; }

# until SECONDS COMMAND...
until_true() {
  tries=$(($1 * 20))
  shift
  while ! "$@"; do
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || return 1
    sleep 0.05
  done
}

gone() { [ -z "$(members)" ]; }

stop() {
  if gone; then rm -f "$DIR/pid" "$DIR/pgid"; echo "kamailio does not run"; return 0; fi
  kill -s TERM -- "-$(cat "$DIR/pgid")" 2>/dev/null || true
  if ! until_true 3 gone; then
    kill -s KILL -- "-$(cat "$DIR/pgid")" 2>/dev/null || true
    until_true 2 gone || { echo "kamailio does not end"; exit 1; }
  fi
  rm -f "$DIR/pid" "$DIR/pgid"
  echo "kamailio stopped"
}

# Runs already, and with the data that lies in the working directory now?
current() { answers && cmp -s "$WORK/accounts/htable" "$DIR/loaded/htable" && cmp -s "$WORK/trunks/uacreg" "$DIR/loaded/uacreg"; }

start() {
  if current; then echo "kamailio runs this directory already"; return 0; fi
  stop >/dev/null
  mkdir -p "$DIR/loaded"
  cp "$WORK/accounts/htable" "$WORK/trunks/uacreg" "$DIR/loaded/"
  @PREFIX@ kamailio -f "$DIR/kamailio.cfg" -P "$DIR/pid" -G "$DIR/pgid" -Y "$DIR" -m @MEMORY@ -M 16 -E >>"$DIR/kamailio.log" 2>&1 \
    || { tail -n 1 "$DIR/kamailio.log"; exit 1; }
  until_true 5 answers || { echo "kamailio does not answer its control socket"; exit 1; }
  echo "kamailio started"
}

# trunk NAME FIELD
trunk() { ctl uac.reg_info l_uuid "$1" | awk -v f="$2:" '$1 == f { print $2 }'; }

# flags (uac_reg.c): 1 disabled, 2 being asked, 4 registered
up() { f=$(trunk "$1" flags); [ -n "$f" ] && [ $((f & 4)) -ne 0 ]; }
# Not registered, and the answer to its last REGISTER is in: the flag 4 falls as soon as that is sent.
down() { f=$(trunk "$1" flags); [ -n "$f" ] && [ $((f & 6)) -eq 0 ]; }

state() {
  f=$(trunk "$1" flags)
  if [ -z "$f" ]; then echo unknown
  elif [ $((f & 4)) -ne 0 ]; then echo up
  elif [ $((f & 1)) -ne 0 ]; then echo rejected
  elif [ $((f & 2)) -ne 0 ]; then echo trying
  else echo down; fi
}

case $1 in
passive | stop_accepting) stop ;;
reload) start ;;
accept_registrations) answers || { echo "kamailio does not run"; exit 1; }; echo "kamailio accepts" ;;
register_trunks)
  answers || { echo "kamailio does not run"; exit 1; }
  for t in $TRUNKS; do
    # an unregistered trunk keeps expires 0 until it is read anew
    if ! up "$t"; then ctl uac.reg_refresh "$t" >/dev/null; fi
  done
  ctl uac.reg_active 1 >/dev/null
  for t in $TRUNKS; do until_true 5 up "$t" || { echo "trunk $t is $(state "$t")"; exit 1; }; done
  echo "registered: $TRUNKS"
  ;;
unregister_trunks)
  answers || { echo "kamailio does not run"; exit 0; }
  asked=
  for t in $TRUNKS; do
    if up "$t"; then
      ctl uac.reg_unregister l_uuid "$t" >/dev/null
      asked="$asked $t"
    fi
  done
  # Before the wait: a short registration would be refreshed meanwhile.
  ctl uac.reg_active 0 >/dev/null
  for t in $asked; do until_true 5 down "$t" || { echo "trunk $t is still $(state "$t")"; exit 1; }; done
  echo "unregistered: $TRUNKS"
  ;;
drain) exit 0 ;;
status)
  if ! answers; then echo '{"serving": false, "registrations": 0, "calls": 0}'; exit 0; fi
  phones=$(ctl stats.fetchn usrloc: | awk '$1 == "usrloc.location_contacts:" { print $2 }')
  calls=$(ctl dlg.stats_active | awk '$1 == "all:" { print $2 }')
  list=
  for t in $TRUNKS; do list="$list${list:+, }{\"name\": \"$t\", \"state\": \"$(state "$t")\"}"; done
  echo "{\"serving\": true, \"registrations\": ${phones:-0}, \"calls\": ${calls:-0}, \"trunks\": [$list]}"
  ;;
*) echo "unknown verb $1" >&2; exit 2 ;;
esac
