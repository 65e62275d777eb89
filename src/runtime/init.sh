# PID 1 of a confined process, without any right: starts the command, forwards signals to it, reaps orphans, ends with its exit code.
#
# usage: sh -s -- COMMAND [ARG]... <init.sh
# The kernel drops signals PID 1 has no handler for, so a command that was PID 1 itself could not be ended by TERM.
# Inherited: 1 the log, 2 messages of the setup, 3 the environment, 5 the started mark, 9 the lock.
set -fu

child= pending=
forward() {
  pending=$1
  [ -z "$child" ] || kill -s "$1" "$child" 2>/dev/null
}
trap 'forward TERM' TERM
trap 'forward INT' INT
trap 'forward HUP' HUP

# These are looked up before the command's own PATH counts.
env=$(command -v env)
setsid=$(command -v setsid)
nice=$(command -v nice)

# The command's variables never become variables of this shell: their names may be its own (PATH, IFS) or read-only in it, and arguments
# of `env` could be seen by everybody. So their values wait under other names, and `env` gives each its own, in its memory.
search=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
environment="PATH=$search HOME=/ LANG=C.UTF-8"
count=0
keep() {
  count=$((count + 1))
  export "claw_$count=${1#*=}"
  environment="$environment ${1%%=*}=\${claw_$count}"
  case $1 in PATH=*) search=${1#*=} ;; esac
}

# One NAME=VALUE a line; a line that begins with = continues the value before it, because no name can.
pair=
while IFS= read -r line; do
  case $line in
    =*)
      pair="$pair
${line#=}"
      ;;
    *)
      [ -z "$pair" ] || keep "$pair"
      pair=$line
      ;;
  esac
done <&3
[ -z "$pair" ] || keep "$pair"

# Whether the command exists is known before it runs: its own exit code 127 would tell nothing.
lookup() {
  case $1 in
    */*)
      [ -e "$1" ] || return 127
      [ -f "$1" ] && [ -x "$1" ] || return 126
      return 0
      ;;
  esac
  found=127
  IFS=:
  for folder in $search; do
    [ ! -f "${folder:-.}/$1" ] || found=126
    [ ! -f "${folder:-.}/$1" ] || [ ! -x "${folder:-.}/$1" ] || return 0
  done
  return "$found"
}

(lookup "$1")
case $? in
  0) ;;
  126)
    printf '%s: not an executable file\n' "$1" >&2
    exit 126
    ;;
  *)
    printf '%s: command not found\n' "${1:-\"\"}" >&2
    exit 127
    ;;
esac

# Else `env` would take it for one more variable.
case $1 in *=*) set -- "$nice" -n 0 -- "$@" ;; esac
# A shell's background commands ignore INT and QUIT, so it counts as started once that is undone: a signal before that would be lost.
# In a session of its own, so that the command's kill(0) does not reach this shell. Its variables come last: they are its own affair.
# shellcheck disable=SC2016 # The inner shell expands them.
"$env" --default-signal=INT,QUIT "$setsid" -- /bin/sh -c 'echo started >&5; exec "$@" 5>&-' sh \
  "$env" --split-string="-i $environment" "$@" </dev/null 2>&1 3<&- 9>&- &
child=$!
[ -z "$pending" ] || kill -s "$pending" "$child"
# /dev/null instead of closing: a later open must not land on these numbers.
exec 2>/dev/null 3<&- 5>&-

# wait also returns, above 128, when a trap ran; only then does the child still exist. It reaps orphans on the way.
while wait "$child"; code=$?; [ "$code" -gt 128 ] && kill -0 "$child" 2>/dev/null; do :; done
exit "$code"
