#!/bin/sh
# Supervises one run of one confined process and records its exit code; it never restarts anything and never outlives the process.
#
# usage: supervise.sh DIRECTORY RUN RESTARTS LOG_BYTES NETNS|- UID:GID|- [cover|freeze|read|write PATH]... -- COMMAND [ARG]...
#
# What it leaves in DIRECTORY, each written to a new name and moved into place:
#   run      "RUN PID STARTTIME BOOT_ID RESTARTS" of this supervisor
#   setup    what went wrong before the command ran
#   started  not empty once the command runs
#   exit     "RUN CODE", 128 + n when signal n ended it
# At SIGUSR1 it starts what lies in DIRECTORY/next, a process that shall have the same listening sockets (see launch-next.sh).
# The lock is held by everything that belongs to the run except the command itself, so a free lock means that nothing is left.
set -fu
umask 077
cd /

directory=$1 run=$2 restarts=$3 log_bytes=$4 netns=$5
shift 5
here=${0%/*}
trap '/bin/sh "$here/launch-next.sh" "$directory" 9<&-' USR1

exec 9>>"$directory/lock"
flock --nonblock 9 || exit 75
# The directory may have been removed, and even made again, between the two lines above.
[ "$directory/lock" -ef "/proc/$$/fd/9" ] || exit 75

# A supervisor that was started twice for one run (its agent died before it knew) must not run the command again.
if [ -e "$directory/run" ]; then
  read -r last rest <"$directory/run"
  [ "$last" -lt "$run" ] || exit 75
fi

rm -f "$directory/started" "$directory/exit" "$directory/pipe"
: >"$directory/setup"
exec 2>>"$directory/setup"
# The environment may hold secrets, so its file is gone once it is open.
exec 3<"$directory/env" 5>>"$directory/started"
rm -f "$directory/env"

# Field 22 of stat is the start time; field 2 may hold blanks and parentheses, so counting begins behind it at field 3.
read -r stat <"/proc/$$/stat"
read -r boot </proc/sys/kernel/random/boot_id
read_start_time() { shift 19; start_time=$1; }
# shellcheck disable=SC2086 # Split on purpose.
read_start_time ${stat##*) }
printf '%s %s %s %s %s\n' "$run" "$$" "$start_time" "$boot" "$restarts" >"$directory/run.new"
mv -f "$directory/run.new" "$directory/run" || exit 70

# Two files of LOG_BYTES are the bound, also while no agent lives. dd writes each read at once; it counts reads, however short, so COUNT reads
# of BS bytes are at most what fits, and a dd that read nothing has met the end.
keep_log() {
  trap '' TERM INT HUP
  while [ -d "$directory/log" ]; do
    size=$(stat --format=%s "$directory/log/current" 2>/dev/null) || size=0
    if [ "$((log_bytes - size))" -lt 65536 ]; then
      mv -f "$directory/log/current" "$directory/log/previous"
      size=0
    fi
    if report=$(dd bs=4096 count="$(((log_bytes - size) / 4096))" 2>&1 >>"$directory/log/current"); then
      case $report in '0+0 records in'*) return 0 ;; esac
    else
      # A full disk costs lines of the log; it must never block the process that writes them.
      dd of=/dev/null bs=4096 count=256
    fi
  done
  cat >/dev/null
}

# Opened for both first, because a fifo's reader and writer each wait for the other. Both ends are open before anything starts.
mkfifo "$directory/pipe"
exec 8<>"$directory/pipe"
exec 7<"$directory/pipe" 6>"$directory/pipe" 8>&-
rm -f "$directory/pipe"
# In a subshell, because redirections of a function keep copies of what they replace, here the fifo's writing end.
(
  exec <&7 >/dev/null 2>/dev/null 3<&- 5>&- 6>&- 7<&-
  keep_log
) &
logger=$!

# The signal goes to PID 1 inside. Before that one can handle it there is nothing to end gently.
forward() {
  init=
  read -r init <"/proc/$runner/task/$runner/children" || :
  init=${init%% *}
  signal=$1
  [ -s "$directory/started" ] || signal=KILL
  kill -s "$signal" "${init:-$runner}" || :
}

set -- unshare --mount --pid --ipc --fork --kill-child=KILL --mount-proc -- /bin/sh "$here/confine.sh" "$@"
[ "$netns" = - ] || set -- nsenter --net="$netns" -- "$@"
# The runner dies with this shell, and all inside with the runner. A shell's background commands ignore INT and QUIT, hence env.
setpriv --pdeathsig KILL -- env --default-signal=INT,QUIT "$@" </dev/null >&6 6>&- 7<&- &
runner=$!
trap 'forward TERM' TERM
trap 'forward INT' INT
trap 'forward HUP' HUP
exec 3<&- 5>&- 6>&- 7<&-

# wait also returns, above 128, when a trap ran; only then does the runner still exist.
while wait "$runner"; code=$?; [ "$code" -gt 128 ] && kill -0 "$runner" 2>/dev/null; do :; done
wait "$logger"
printf '%s %s\n' "$run" "$code" >"$directory/exit.new"
mv -f "$directory/exit.new" "$directory/exit"
