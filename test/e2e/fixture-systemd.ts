/**
 * A real systemd on a machine of its own: PID 1 of its own namespaces, on a copy of this machine's files that forgets every change. Its
 * units cannot reach the kernel's settings beyond its own network.
 */
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { start, type Argv } from '../../src/drivers/exec.ts';
import { childrenOf } from '../../src/sandbox/processes.ts';
import type { Outcome } from '../cli/cli-process.ts';
import { checkout } from '../cli/sandbox-fixture.ts';

export interface SystemdMachine {
  run(argv: Argv): Promise<Outcome>;
  /** Of a program that must not fail. */
  output(argv: Argv): Promise<string>;
  close(): Promise<void>;
}

const BOOT_TIMEOUT_MS = 30_000;

/** Undefined, with a loud word, where none can be booted: not as root, no systemd, or control groups that cannot be mounted. */
export async function bootSystemd(): Promise<SystemdMachine | undefined> {
  const unfit = (why: string): undefined => void process.stderr.write(`!! not run, no systemd can be booted here (${why}): the service under a real systemd\n`);
  if (process.getuid?.() !== 0) return unfit('only root can');
  const namespaces = ['--net', '--mount', '--pid', '--ipc', '--uts', '--cgroup', '--fork', '--kill-child'];
  const outer = start(['unshare', ...namespaces, 'sh', '-ec', BOOT, 'sh', checkout, process.execPath], { stdio: ['ignore', 'ignore', 'pipe'] });
  const ended = once(outer, 'close');
  const said = outer.stderr === null ? Promise.resolve('') : text(outer.stderr);
  const close = async (): Promise<void> => {
    outer.kill('SIGKILL');
    await ended;
  };
  const enter = (pid: number, argv: Argv) =>
    start(['nsenter', '-t', String(pid), '--net', '--mount', '--pid', '--ipc', '--uts', '--cgroup', '--root', '--wd', '--', 'env', '-C', '/', ...argv], { stdio: ['ignore', 'pipe', 'pipe'], env: environment() });
  const runIn = async (pid: number, argv: Argv): Promise<Outcome> => {
    const child = enter(pid, argv);
    const [[exitCode, signal], stdout, stderr] = await Promise.all([once(child, 'close'), child.stdout === null ? '' : text(child.stdout), child.stderr === null ? '' : text(child.stderr)]);
    return { exitCode, signal, stdout, stderr };
  };

  let state = '';
  for (const deadline = performance.now() + BOOT_TIMEOUT_MS; performance.now() < deadline && outer.exitCode === null; await sleep(100)) {
    const [pid] = await childrenOf(outer.pid ?? 0);
    if (pid === undefined) continue;
    state = (await runIn(pid, ['systemctl', 'is-system-running'])).stdout.trim();
    if (state !== 'running' && state !== 'degraded') continue;
    return {
      run: (argv) => runIn(pid, argv),
      output: async (argv) => {
        const { exitCode, stdout, stderr } = await runIn(pid, argv);
        if (exitCode !== 0) throw new Error(`${argv.join(' ')} ended with ${exitCode}: ${stderr}${stdout}`);
        return stdout;
      },
      close,
    };
  }
  await close();
  return unfit(`${state} ${(await said).trim().split('\n').at(-1) ?? ''}`.trim());
}

function environment(): NodeJS.ProcessEnv {
  const { CLAWNODE_SOCKET: _, ...rest } = process.env;
  return { ...rest, PATH: `${rest['PATH'] ?? ''}:/usr/sbin:/sbin` };
}

// The units that are masked set up hardware or settings of the whole machine.
const BOOT = `
base=/run/claw-systemd
mount -t tmpfs tmpfs /run
mkdir -p $base/upper $base/work $base/root
mount -t tmpfs tmpfs $base
mkdir $base/upper $base/work $base/root
mount -t overlay overlay -o lowerdir=/,upperdir=$base/upper,workdir=$base/work $base/root
cd $base/root
mkdir -p ".$1" && mount --rbind "$1" ".$1"
[ -e ".$2" ] || { mkdir -p ".\${2%/*}" && : >".$2"; }
mount --bind "$2" ".$2"
mount -t proc proc proc
mount --bind proc/sys proc/sys && mount -o remount,bind,ro proc/sys && mount --bind proc/sys/net proc/sys/net && mount -o remount,bind,rw proc/sys/net
mount -t sysfs -o ro sysfs sys
mount --rbind /dev dev
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs sys/fs/cgroup
if mkdir sys/fs/cgroup/unified && mount -t cgroup2 cgroup2 sys/fs/cgroup/unified && [ -z "$(cat sys/fs/cgroup/unified/cgroup.controllers)" ]; then
  mkdir sys/fs/cgroup/systemd && mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
else
  umount sys/fs/cgroup/unified sys/fs/cgroup && mount -t cgroup2 cgroup2 sys/fs/cgroup
fi
rm -rf etc/systemd/system/*.wants etc/systemd/system/clawnode.service* etc/sysusers.d/clawnode.conf etc/clawnode var/lib/clawnode
for unit in systemd-sysctl.service systemd-modules-load.service systemd-binfmt.service proc-sys-fs-binfmt_misc.automount systemd-udevd.service \\
  systemd-udev-trigger.service systemd-remount-fs.service systemd-hwdb-update.service systemd-random-seed.service kmod-static-nodes.service \\
  dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount modprobe@.service; do
  ln -sf /dev/null etc/systemd/system/$unit
done
ip link set lo up
exec chroot . env -i container=claw PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --log-target=journal --unit=basic.target`;
