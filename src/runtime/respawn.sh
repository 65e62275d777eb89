#!/bin/sh
# Runs a program again whenever it was killed or crashed, also while no agent lives; one that cannot start or that was told to end stays ended.
#
# usage: respawn.sh COMMAND [ARG]...
# It ends with the last exit code, 128 + n when signal n ended the program.
set -fu

child= ending=
forward() {
  [ "$1" = HUP ] || ending=yes
  [ -z "$child" ] || kill -s "$1" "$child" 2>/dev/null
}
trap 'forward TERM' TERM
trap 'forward INT' INT
trap 'forward HUP' HUP

# Whole seconds since boot, without a program for it.
now() {
  read -r uptime rest </proc/uptime
  seconds=${uptime%%.*}
}

while :; do
  now
  started=$seconds
  # A shell's background commands ignore INT and QUIT.
  env --default-signal=INT,QUIT "$@" &
  child=$!
  [ -z "$ending" ] || kill -s TERM "$child"
  # wait also returns, above 128, when a trap ran; only then does the child still exist.
  while wait "$child"; code=$?; [ "$code" -gt 128 ] && kill -0 "$child" 2>/dev/null; do :; done
  child=
  now
  lived=$((seconds - started))
  # Its own error as soon as it starts is one that the next would meet as well.
  [ "$code" -gt 128 ] || { [ "$code" -ne 0 ] && [ "$lived" -ge 5 ]; } || exit "$code"
  [ -z "$ending" ] || exit "$code"
  # One that is killed at once, for want of memory for example, must not take a whole processor.
  [ "$lived" -ge 2 ] || sleep 0.2
done
