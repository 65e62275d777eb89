#!/bin/sh
# Builds what a confined process may see, then gives up every right; it runs as PID 1 of fresh mount, pid and ipc namespaces and never
# changes anything outside them.
#
# usage: confine.sh UID:GID|- [cover|read|write PATH]... -- COMMAND [ARG]...
#   cover PATH  an empty read-only tmpfs hides the directory
#   read PATH   stays visible at its own path, below a covered directory too; read-only
#   write PATH  the same, writable
# Paths are sorted, parents before children. Inherited: 1 the log, 2 messages of the setup, 3 the environment, 5 the started mark, 9 the lock.
set -efu
umask 022

here=${0%/*}
user=$1
shift

# /sys exists everywhere and gets a mount of its own in the end, so until then it holds what is moved into place later.
stage=/sys
mount -t tmpfs -o mode=0700 tmpfs "$stage"

make_target() {
  if [ -d "$1" ]; then
    mkdir -p "$2"
  elif [ ! -e "$2" ]; then
    mkdir -p "${2%/*}"
    : >"$2"
  fi
}

stage_exposed() {
  index=0
  while [ "$1" != -- ]; do
    index=$((index + 1))
    if [ "$1" != cover ]; then
      make_target "$2" "$stage/$index"
      mount --rbind "$2" "$stage/$index"
    fi
    shift 2
  done
}

apply_views() {
  index=0
  while [ "$1" != -- ]; do
    index=$((index + 1))
    if [ "$1" = cover ]; then
      mount -t tmpfs -o nosuid,nodev,noexec,mode=0755,size=1m tmpfs "$2"
    else
      make_target "$stage/$index" "$2"
      mount --move "$stage/$index" "$2"
      [ "$1" = write ] || mount -o remount,bind,ro "$2"
    fi
    shift 2
  done
}

seal_covers() {
  while [ "$1" != -- ]; do
    [ "$1" != cover ] || mount -o remount,bind,ro,nosuid,nodev,noexec "$2"
    shift 2
  done
}

# The devices of the machine belong to uid 0, and in a sandbox the process has that uid: it gets those that hold nothing.
stage_devices() {
  mkdir "$stage/dev"
  mount -t tmpfs -o nosuid,noexec,mode=0755,size=1m tmpfs "$stage/dev"
  for device in null zero full random urandom tty; do
    : >"$stage/dev/$device"
    mount --bind "/dev/$device" "$stage/dev/$device"
  done
  mkdir "$stage/dev/pts" "$stage/dev/shm"
  mount -t devpts -o newinstance,nosuid,noexec,ptmxmode=0666,mode=0620 devpts "$stage/dev/pts"
  mount -t tmpfs -o nosuid,nodev,noexec,mode=1777 tmpfs "$stage/dev/shm"
  ln -s pts/ptmx "$stage/dev/ptmx"
  ln -s /proc/self/fd "$stage/dev/fd"
  ln -s fd/0 "$stage/dev/stdin"
  ln -s fd/1 "$stage/dev/stdout"
  ln -s fd/2 "$stage/dev/stderr"
}

stage_exposed "$@"
stage_devices
apply_views "$@"
mount --move "$stage/dev" /dev
umount "$stage"
seal_covers "$@"

# The kernel lets the owner, uid 0, write these without any capability; a read-only submount also forbids a fresh writable procfs.
for path in /proc/sys /proc/sysrq-trigger /proc/irq /proc/bus /proc/fs; do
  [ ! -e "$path" ] || mount --bind -o ro "$path" "$path"
done
# A sysfs shows the interfaces of the network namespace it is mounted in, so the inherited one shows somebody else's.
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs /sys 2>/dev/null || mount -t tmpfs -o ro,nosuid,nodev,noexec tmpfs /sys

while [ "$1" != -- ]; do shift 2; done
shift
set -- /bin/sh -s -- "$@"
if [ "$user" != - ]; then
  set -- --reuid "${user%:*}" --regid "${user#*:}" --clear-groups -- "$@"
  # Else the process could not open /dev/stdout.
  chown "${user%:*}" /proc/self/fd/1
fi
# A change of uid clears the parent death signal, so it is set again. The script comes by an open file: that uid may not reach its path.
exec <"$here/init.sh"
exec setpriv --pdeathsig KILL --no-new-privs --bounding-set=-all --inh-caps=-all --ambient-caps=-all "$@"
