#!/bin/sh
# Starts what the agent has put down for the caller, with every file that the caller has open from number 10 on; it decides nothing.
#
# usage: launch-next.sh DIRECTORY
#   DIRECTORY/next        the argv of the program, each argument ended by a NUL
#   DIRECTORY/next.taken  the same while it is started; gone once it was
# What has numbers below 10, a lock for example, is the caller's own and is not handed on.
set -fu

mv -f "$1/next" "$1/next.taken" || exit 0
exec </dev/null >/dev/null 2>/dev/null 3<&- 4<&- 5<&- 6<&- 7<&- 8<&- 9<&-
# xargs splits what is too long, unless it is told to give up instead.
xargs --null --exit --max-args=10000 --max-chars=1000000 --arg-file="$1/next.taken" setsid --fork --
rm -f "$1/next.taken"
