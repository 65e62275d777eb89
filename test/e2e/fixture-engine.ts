/** A real Docker Engine inside of a test's own machine, with a small image; it can be stopped, killed and started again. */
import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { ENGINE_ROOT } from '../../scripts/prepare-engine.ts';
import type { Machine } from './fixture-machine.ts';

export const SOCKET = '/run/engine/docker.sock';
export const IMAGE = 'busybox:test';

/** Why no Engine can be started here; undefined when one can. */
export function whyNoEngine(): string | undefined {
  if (process.getuid?.() !== 0) return 'it needs root';
  return existsSync(ENGINE_ROOT) ? undefined : 'its packages are not there: run `node scripts/prepare-machine.ts --for tests`';
}

export interface Engine {
  /** The `docker` command of this Engine. */
  docker(...args: string[]): Promise<string>;
  /** SIGTERM unless told; resolves when it has ended. With SIGKILL containers live on, until it is started again. */
  stop(signal?: 'TERM' | 'KILL'): Promise<void>;
  start(...args: string[]): Promise<void>;
  /** Stops it with all containers, and removes what they left in the control groups. */
  close(): Promise<void>;
}

export async function openEngine(machine: Machine): Promise<Engine> {
  const group = `/clawnode-test-${process.pid}-${Math.random().toString(36).slice(2, 8)}`;
  const script = (text: string, ...args: string[]): Promise<string> => machine.output(['sh', '-ec', `${ENVIRONMENT}\n${text}`, 'sh', ...args]);
  const docker = (...args: string[]): Promise<string> => script('exec docker -H "unix://$SOCKET" "$@"', ...args);
  const start = async (...args: string[]): Promise<void> => {
    await script(START, group, ...args);
    for (let left = 300; ; left -= 1) {
      try {
        return void (await docker('version'));
      } catch (error) {
        if (left === 0) throw new Error(await machine.output(['tail', '-n', '20', '/run/engine/log']), { cause: error });
        await sleep(100);
      }
    }
  };
  const stop = async (signal: 'TERM' | 'KILL' = 'TERM'): Promise<void> => {
    await script('pid=$(cat /run/engine/pid); kill -$1 $pid; while [ -e /proc/$pid ] && ! grep -q "^State:.Z" /proc/$pid/status; do sleep 0.05; done', signal);
  };
  await script(CGROUPS);
  await start();
  await script(BUILD, IMAGE);
  return {
    docker,
    start,
    stop,
    close: async () => {
      await docker('ps', '-aq').then(async (ids) => (ids.trim() === '' ? '' : docker('rm', '-f', ...ids.trim().split('\n'))));
      await stop();
      await script('find /sys/fs/cgroup -depth -type d -path "*$1*" -exec rmdir {} + 2>/dev/null || true', group);
    },
  };
}

const ENVIRONMENT = `
root=${ENGINE_ROOT}
export PATH="$root/usr/bin:$root/usr/sbin:$root/bin:$root/sbin:$PATH" SOCKET=${SOCKET}
export LD_LIBRARY_PATH="$(echo $root/usr/lib/*-linux-gnu | tr ' ' :)"`;

/** A fresh sysfs shows no control groups: the machine's are put back, as the Engine needs them. */
const CGROUPS = 'mkdir -p /run/engine; mount --rbind /run/cgroup /sys/fs/cgroup';

const START = `
group=$1; shift
mkdir -p /run/engine /var/lib/engine
rm -f /run/engine/pid
setsid dockerd --data-root /var/lib/engine --exec-root /run/engine/exec -H unix://$SOCKET --pidfile /run/engine/pid --storage-driver vfs --cgroup-parent $group "$@" >>/run/engine/log 2>&1 </dev/null &
`;

const BUILD = `
rootfs=$(mktemp -d /run/rootfs.XXXXXX); mkdir $rootfs/bin $rootfs/tmp
cp "$(command -v busybox)" $rootfs/bin/busybox
for applet in $($rootfs/bin/busybox --list); do [ $applet = busybox ] || ln -s busybox $rootfs/bin/$applet; done
tar -C $rootfs -c . | docker -H unix://$SOCKET import - "$1" >/dev/null`;
