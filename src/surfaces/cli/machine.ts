/** What clawnode needs of a machine, as a table of checks with the Debian package behind each; it changes nothing. */
import { readFile } from 'node:fs/promises';
import { geteuid } from 'node:process';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { openConntrack } from '../../drivers/conntrack.ts';
import { run, type Argv } from '../../drivers/exec.ts';
import { chooseBackend } from '../../drivers/iptables-backend.ts';
import { toClawError } from '../../errors.ts';
import { isNearlyFull } from '../../model/conntrack.ts';
import { missingUlogd } from '../../flows/ulogd-config.ts';
import { sandboxObstacle } from '../../sandbox/availability.ts';

/** `required`: nothing works without it. `recommended`: a part of the program needs it. */
type Need = 'required' | 'recommended';

export interface Finding {
  readonly name: string;
  readonly need: Need;
  readonly state: 'ok' | 'missing' | 'warning';
  /** A version, or what is wrong. */
  readonly detail: string;
  readonly purpose: string;
  /** The Debian and Ubuntu package that would bring it. */
  readonly package?: string;
}

/** Runs every check, in the order in which they are shown. */
export async function inspectMachine(signal: AbortSignal): Promise<Finding[]> {
  const programs = await Promise.all(PROGRAMS.map((program) => checkProgram(program, signal)));
  const rest = await Promise.all([namespaces(signal), netfilter(signal), conntrackTable(), flowLog(signal), iptablesBackend(signal), ingressPort(), firewalls(signal)]);
  return [nodeVersion(), ...programs, ...rest];
}

interface Program {
  readonly argv: Argv;
  readonly package: string;
  readonly purpose: string;
}

// mount, setpriv and the rest of util-linux are in the smallest Debian; iproute2, procps and what follows are not.
const PROGRAMS: readonly Program[] = [
  { argv: ['iptables', '--version'], package: 'iptables', purpose: 'programs services and isolation' },
  { argv: ['nft', '--version'], package: 'nftables', purpose: 'tells when others change rules' },
  { argv: ['ipset', '--version'], package: 'ipset', purpose: 'sets of addresses in rules' },
  { argv: ['ip', '-V'], package: 'iproute2', purpose: 'interfaces, routes, network namespaces' },
  { argv: ['conntrack', '--version'], package: 'conntrack', purpose: 'ends connections to endpoints that are gone' },
  { argv: ['sysctl', '--version'], package: 'procps', purpose: 'forwarding and other kernel settings' },
  { argv: ['setpriv', '--version'], package: 'util-linux', purpose: 'takes rights away from workloads' },
  { argv: ['unshare', '--version'], package: 'util-linux', purpose: 'opens sandboxes and confines workloads' },
  { argv: ['nsenter', '--version'], package: 'util-linux', purpose: 'enters sandboxes' },
  { argv: ['flock', '--version'], package: 'util-linux', purpose: 'one supervisor per workload' },
  { argv: ['mount', '--version'], package: 'mount', purpose: 'furnishes sandboxes' },
];

function nodeVersion(): Finding {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const ok = major > 24 || (major === 24 && minor >= 16);
  return {
    name: 'node',
    need: 'required',
    state: ok ? 'ok' : 'missing',
    detail: ok ? `v${process.versions.node}` : `v${process.versions.node} is older than v24.16`,
    purpose: 'runs clawnode',
  };
}

async function checkProgram({ argv, package: packageName, purpose }: Program, signal: AbortSignal): Promise<Finding> {
  const finding = { name: argv[0], need: 'required', purpose, package: packageName } as const;
  try {
    // `ipset --version` ends with 1 for an ordinary user: it asks the kernel for its version too, which only root may.
    const { stdout, stderr } = await run(argv, { signal, okExitCodes: [0, 1] });
    const version = versionIn(stdout) ?? versionIn(stderr);
    if (version === undefined) return { ...finding, state: 'warning', detail: `tells no version: ${(stderr || stdout).trim().split('\n')[0] ?? ''}` };
    return { ...finding, state: 'ok', detail: version };
  } catch (thrown) {
    signal.throwIfAborted();
    const error = toClawError(thrown);
    if (error.code === 'MISSING_BINARY') return { ...finding, state: 'missing', detail: 'not installed' };
    return { ...finding, state: 'warning', detail: error.message };
  }
}

/** The version in a program's own words, with what stands in brackets behind it: iptables names its backend there. */
function versionIn(text: string): string | undefined {
  return /\d+\.\d+[\w.-]*( \((nf_tables|legacy)\))?/.exec(text)?.[0];
}

async function namespaces(signal: AbortSignal): Promise<Finding> {
  const finding = { name: 'user namespaces', need: 'recommended', purpose: 'sandboxes' } as const;
  const obstacle = await sandboxObstacle(signal);
  if (obstacle === undefined) return { ...finding, state: 'ok', detail: 'usable' };
  return { ...finding, state: 'missing', detail: `${obstacle.message}. ${obstacle.hint ?? ''}` };
}

/** Tries what rules are made of, in namespaces that end with the try: a kernel may be built without any of it. */
async function netfilter(signal: AbortSignal): Promise<Finding> {
  const finding = { name: 'netfilter', need: 'required', purpose: 'NAT, sets and virtual interfaces' } as const;
  const namespace = ['unshare', '--user', '--map-root-user', '--net', '--mount', 'sh', '-ec'] as const;
  try {
    await run([...namespace, KERNEL_TRIAL], { signal });
    return { ...finding, state: 'ok', detail: 'usable' };
  } catch (thrown) {
    signal.throwIfAborted();
    return { ...finding, state: 'warning', detail: `could not be tried: ${toClawError(thrown).message.split(': ').at(-1) ?? ''}` };
  }
}

const KERNEL_TRIAL = `
mount -t tmpfs tmpfs /run
iptables -t nat -A OUTPUT -m statistic --mode random --probability 0.5 -j RETURN
ipset create trial hash:net,iface
ip link add trial0 type veth peer name trial1
`;

/** A full table drops new connections and says so only in the kernel's log. */
async function conntrackTable(): Promise<Finding> {
  const finding = { name: 'connections', need: 'recommended', purpose: 'room in the connection tracking table' } as const;
  const size = await openConntrack().size();
  if (size === undefined) return { ...finding, state: 'ok', detail: 'none tracked yet' };
  const { entries, maximum } = size;
  const detail = `${entries} of ${maximum} tracked`;
  if (!isNearlyFull(size)) return { ...finding, state: 'ok', detail };
  return { ...finding, state: 'warning', detail: `${detail}, new ones are dropped when it is full: \`sudo sysctl net.netfilter.nf_conntrack_max=${2 * maximum}\`` };
}

/** Its package brings ulogd itself; without it policies are enforced, and nobody is told of what they deny. */
async function flowLog(signal: AbortSignal): Promise<Finding> {
  const program = { argv: ['ulogd', '--version'], package: 'ulogd2-json', purpose: 'tells which connections policies deny' } as const;
  const finding = { ...(await checkProgram(program, signal)), need: 'recommended' } as const;
  return finding.state !== 'missing' && missingUlogd() !== undefined ? { ...finding, state: 'missing', detail: 'its JSON output is not installed' } : finding;
}

/** In which of the two backends an agent on this machine would keep its rules, and whether others keep theirs in both. */
async function iptablesBackend(signal: AbortSignal): Promise<Finding> {
  const finding = { name: 'iptables backend', need: 'recommended', purpose: 'where rules are kept' } as const;
  if (geteuid?.() !== 0) return { ...finding, state: 'ok', detail: 'nft in a sandbox; for this machine only root can tell' };
  try {
    const { backend, reason, mixed } = await chooseBackend({ configured: 'auto', sandbox: false }, signal);
    if (!mixed) return { ...finding, state: 'ok', detail: `${backend}: ${reason}` };
    return {
      ...finding,
      state: 'warning',
      detail: `${backend}: ${reason}. nft and legacy both hold rules of others, and every packet meets both: keep them in one (compare iptables-nft-save and iptables-legacy-save)`,
    };
  } catch (thrown) {
    signal.throwIfAborted();
    return { ...finding, state: 'warning', detail: toClawError(thrown).message };
  }
}

async function ingressPort(): Promise<Finding> {
  const finding = { name: 'port 8443', need: 'recommended', purpose: 'the ingress' } as const;
  const server = createServer();
  try {
    server.listen(8443);
    await once(server, 'listening');
    return { ...finding, state: 'ok', detail: 'free' };
  } catch (error) {
    const why = error instanceof Error && 'code' in error && error.code === 'EADDRINUSE' ? 'in use, by an agent or another program' : String(error);
    return { ...finding, state: 'warning', detail: why };
  } finally {
    server.close();
  }
}

/** Firewall front ends whose default is to refuse what comes from other machines. */
async function firewalls(signal: AbortSignal): Promise<Finding> {
  const finding = { name: 'firewall', need: 'recommended', purpose: '8443/tcp from other machines' } as const;
  const ufw = await readFile('/etc/ufw/ufw.conf', 'utf8').catch(() => '');
  if (/^ENABLED=yes/im.test(ufw)) {
    return { ...finding, state: 'warning', detail: 'ufw is active: `sudo ufw allow 8443/tcp`' };
  }
  const firewalld = await run(['firewall-cmd', '--state'], { signal }).then(() => true, () => false);
  signal.throwIfAborted();
  if (firewalld) {
    return { ...finding, state: 'warning', detail: 'firewalld is active: `sudo firewall-cmd --permanent --add-port=8443/tcp && sudo firewall-cmd --reload`' };
  }
  return { ...finding, state: 'ok', detail: 'neither ufw nor firewalld is active' };
}
