#!/bin/bash
# What one would write instead of a robot: naive.sh URL SERVER ZONE NAME ADDRESS KEYFILE
# Asks once a second, 2 s limit; after three failures in a row changes one A record, and ends.
URL=$1 SERVER=$2 ZONE=$3 NAME=$4 ADDRESS=$5 KEYFILE=$6
failures=0
while true; do
    if curl --silent --fail --max-time 2 --output /dev/null "$URL"; then
        failures=0
    else
        failures=$((failures + 1))
    fi
    if [ "$failures" -ge 3 ]; then
        printf 'server %s\nzone %s\nupdate delete %s. A\nupdate add %s. 30 A %s\nsend\n' \
            "$SERVER" "$ZONE" "$NAME" "$NAME" "$ADDRESS" | nsupdate -k "$KEYFILE" && exit 0
        failures=0
    fi
    sleep 1
done
