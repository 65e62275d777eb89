#!/bin/sh
# Builds what a confined process may see, then gives up every right; it runs as PID 1 of fresh mount, pid and ipc namespaces and never
# changes anything outside them.
#
# usage: confine.sh UID:GID|- [cover|freeze|read|write PATH]... -- COMMAND [ARG]...
#   cover PATH   an empty read-only tmpfs hides the directory
#   freeze PATH  read-only, with all that is mounted below it
#   read PATH    stays visible at its own path, below a covered directory too; read-only, with all that is mounted below it
#   write PATH   the same, writable
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
    case $1 in
      read | write)
        make_target "$2" "$stage/$index"
        mount --rbind "$2" "$stage/$index"
        ;;
    esac
    shift 2
  done
}

apply_views() {
  index=0
  while [ "$1" != -- ]; do
    index=$((index + 1))
    case $1 in
      cover)
        # What has gone since it was looked for, as the directory of another sandbox may, hides nothing.
        mount -t tmpfs -o nosuid,nodev,noexec,mode=0755,size=1m tmpfs "$2" || [ ! -e "$2" ]
        ;;
      freeze) mount --rbind "$2" "$2" ;;
      *)
        make_target "$stage/$index" "$2"
        mount --move "$stage/$index" "$2"
        ;;
    esac
    shift 2
  done
}

# Once all mounts are in place. `ro` of a mount does not count for those below it, and in a user namespace the kernel refuses to drop any
# other flag that an inherited mount has; so each mount is remounted by itself, with the flags it has.
make_read_only() {
  mounts=$(cat /proc/self/mountinfo)
  while read -r id parent device root point flags rest; do
    case $flags in ro | ro,*) continue ;; esac
    # Looking into an autofs would mount what it stands for, and nothing can be written to it itself.
    case $rest in *' - autofs '*) continue ;; esac
    # Blanks and the like are written as octal numbers.
    case $point in *\\*) point=$(printf '%b.' "$point") && point=${point%.} ;; esac
    set_options "$flags"
    stays_writable "$point" "$@" || reaches_another "$point" "$id" || mount -o "$options" none "$point"
  done <<EOF
$mounts
EOF
}

# The last of the paths above it is the nearest one.
stays_writable() {
  path=$1 nearest=write
  shift
  while [ "$1" != -- ]; do
    case $path in "$2" | "$2"/*) nearest=$1 ;; esac
    shift 2
  done
  [ "$nearest" = write ]
}

# Whether the path does not lead to the mount with this number, because another covers it. One that cannot even be opened with all
# rights in this namespace cannot be written to either; and writing to a device or socket is not writing to its mount.
reaches_another() {
  [ -d "$1" ] || [ -f "$1" ] || return 0
  { read_mount_id; } 2>/dev/null 4<"$1" || return 0
  [ "$found" != "$2" ]
}

read_mount_id() {
  while read -r key found && [ "$key" != mnt_id: ]; do :; done </proc/self/fdinfo/4
}

set_options() {
  options=remount,bind,ro left=$1,
  while [ -n "$left" ]; do
    case ${left%%,*} in nosuid | nodev | noexec | noatime | nodiratime | relatime | nosymfollow) options=$options,${left%%,*} ;; esac
    left=${left#*,}
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
make_read_only "$@"

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
