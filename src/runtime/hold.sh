#!/bin/sh
# Keeps listening sockets open, whoever serves on them and dies; it accepts no connection, reads nothing that a stranger sends and ends nothing.
#
# usage: hold.sh DIRECTORY
# The sockets are its files 10 and on. What it leaves in DIRECTORY, written to a new name and moved into place:
#   holder   "PID STARTTIME BOOT_ID"
# At SIGUSR1 it starts what lies in DIRECTORY/next (see launch-next.sh). SIGKILL ends it: it has nothing to tidy up.
set -fu
umask 077
cd /

directory=$1
here=${0%/*}
exec </dev/null >/dev/null 2>/dev/null 3<&- 4<&- 5<&- 6<&- 7<&-
trap '' TERM INT HUP QUIT PIPE
trap '/bin/sh "$here/launch-next.sh" "$directory" 9<&-' USR1

exec 9>>"$directory/lock"
flock --nonblock 9 || exit 75

# Without a child that waits in its place, there is nobody who could keep the sockets when it is gone.
rm -f "$directory/pipe"
mkfifo "$directory/pipe"
exec 8<>"$directory/pipe"
rm -f "$directory/pipe"

read -r stat <"/proc/$$/stat"
read -r boot </proc/sys/kernel/random/boot_id
read_start_time() { shift 19; start_time=$1; }
# shellcheck disable=SC2086 # Split on purpose.
read_start_time ${stat##*) }
printf '%s %s %s\n' "$$" "$start_time" "$boot" >"$directory/holder.new"
mv -f "$directory/holder.new" "$directory/holder" || exit 70

# Nothing is ever written to the pipe; a signal ends the read, and its trap runs.
while :; do read -r nothing <&8 || :; done
