/**
 * The shell scripts of the sandbox: its PID 1, the way in for a command, and `clawnode` inside. Values reach the first two as
 * arguments only, and the last as quoted words.
 *
 * PID 1 is a shell because a Node process is no init: libuv waits only for the children it started, so orphans that the
 * kernel hands to a Node PID 1 stay zombies for ever. A shell's `wait` reaps every child, whoever started it.
 */
import type { Argv } from '../drivers/exec.ts';

/** Runs as PID 1: `$1` is the shared directory, the rest is the agent's argv. Says `up` once, then `ended CODE` per agent. */
export const INIT_SCRIPT = `
set -eu
shared=$1
shift
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs /run
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs /sys
if [ -e /etc/resolv.conf ] || [ -L /etc/resolv.conf ]; then
  resolver=$(readlink -m /etc/resolv.conf)
  if [ ! -e "$resolver" ]; then mkdir -p "$(dirname "$resolver")"; : >"$resolver"; fi
  mount --bind "$shared/resolv.conf" "$resolver"
fi
ip link set lo up
echo up
# Signals that have no handler are not delivered to a PID 1, so a way to end has to be made.
trap 'exit 0' TERM
exec 3<&0 </dev/null
( cat <&3 >/dev/null; kill -TERM 1 ) &
exec 3<&-
while :; do
  "$@" >>"$shared/agent.log" 2>&1 &
  code=0
  wait $! || code=$?
  echo "ended $code"
  # An agent that was killed is needed again at once; one that gave up would only give up again.
  if [ "$code" -gt 128 ]; then sleep 0.05; else sleep 1; fi
done
`;

/**
 * Runs a command that has just entered: `$1` is the directory to work in, `$2` the caller's LC_ALL, the rest its argv.
 * Entering a mount namespace puts a process at its root, and our own programs run in the C locale.
 */
export const ENTER_SCRIPT = `
cd "$1" 2>/dev/null || cd /
if [ -n "$2" ]; then LC_ALL=$2; else unset LC_ALL; fi
shift 2
command -v "$1" >/dev/null || { printf 'clawnode: %s: command not found\\n' "$1" >&2; exit 127; }
exec "$@"
`;

/** A program that is another one with its first arguments given. It names the Node to run, since the one on the PATH may be old. */
export function launcherScript(argv: Argv): string {
  return `#!/bin/sh\nexec ${argv.map(quoted).join(' ')} "$@"\n`;
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}
