#!/bin/sh
# Grid Engine: is job $1 running, or how did it end? qstat knows jobs until they end, qacct from a
# few seconds later on.
for _ in 1 2 3 4 5 6; do
  if qstat -j "$1" >/dev/null 2>&1; then
    echo running
    exit
  fi
  if ended=$(qacct -j "$1" 2>/dev/null); then
    if printf '%s\n' "$ended" | grep -q '^exit_status *0'; then echo success; else echo failed; fi
    exit
  fi
  sleep 5
done
echo failed
