/** The text of the systemd unit and of the users it needs: pure; it reads and writes nothing. */
import { createHash } from 'node:crypto';

export interface UnitOptions {
  /** Absolute: the Node.js and the launcher of this program. */
  readonly program: readonly [node: string, launcher: string];
  /** Absolute; all defaults without one. */
  readonly configFile: string | undefined;
}

export const UNIT_NAME = 'clawnode.service';

/**
 * What the agent and the programs it starts use of root's rights, found by running an agent with each one taken away. Not among them are
 * those to load modules, trace the kernel, set the clock, reboot, or change files' capabilities.
 */
export const CAPABILITIES = [
  'CAP_NET_ADMIN',
  'CAP_NET_RAW',
  'CAP_NET_BIND_SERVICE',
  'CAP_SYS_ADMIN',
  'CAP_SYS_PTRACE',
  'CAP_SETUID',
  'CAP_SETGID',
  'CAP_SETPCAP',
  'CAP_KILL',
  'CAP_CHOWN',
  'CAP_FOWNER',
  'CAP_DAC_OVERRIDE',
] as const;

/** The whole file. Its first line lets `authorOf` tell whether somebody has edited it since. */
export function unitText({ program, configFile }: UnitOptions): string {
  const command = commandOf(program);
  const config = configFile === undefined ? '' : ` --config ${argument(configFile)}`;
  return sealed(`[Unit]
Description=Clawbernetes networking agent
Wants=network-online.target
After=network-online.target
# Firewalls that replace all rules when they start come first; later changes of theirs are repaired.
After=nftables.service iptables.service netfilter-persistent.service ufw.service firewalld.service docker.service
# iptables-legacy loads this module itself, which the agent may not.
Wants=modprobe@ip_tables.service
After=modprobe@ip_tables.service
# What keeps it from starting, a VPN in one of its ranges for example, may end by itself: it never gives up.
StartLimitIntervalSec=0

[Service]
# Not notify: the messages would have to come from any process of this unit, and workloads are among them.
Type=exec
ExecStart=${command} up${config}
# What is ordered after this unit finds an agent that answers.
ExecStartPost=${command} status --ready 60
Restart=always
RestartSec=1
# Wrong usage does not get better.
RestartPreventExitStatus=2
TimeoutStartSec=90
TimeoutStopSec=30

# Workloads, ingress and supervisors live on when the agent is stopped, restarted or killed, and the next one takes them over. systemd
# names them as left-over processes when it starts the unit again. \`clawnode cleanup\` ends them.
KillMode=process
# One of them that runs out of memory is no reason to stop the agent.
OOMPolicy=continue
TasksMax=infinity
LimitNOFILE=524288

StateDirectory=clawnode
StateDirectoryMode=0700
RuntimeDirectory=clawnode
RuntimeDirectoryMode=0755
# The ingress goes on without the agent, and its control sockets lie here.
RuntimeDirectoryPreserve=yes

# Root, but only with the rights that its work takes. Workloads and the ingress have none of these.
CapabilityBoundingSet=${CAPABILITIES.join(' ')}
NoNewPrivileges=yes
# Workloads inherit the filters of this unit. These take nothing from them that they should have: other families pass by the policies,
# and nothing here may use real time or namespaces' clocks.
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET
RestrictRealtime=yes
# Left out on purpose. ProtectSystem, ProtectHome, PrivateTmp and whatever else gives the unit mounts of its own: workloads would see
# them, and the next agent would not see the network namespaces that this one has named. ProtectKernelTunables: it turns forwarding on.
# RestrictNamespaces: it makes them. MemoryDenyWriteExecute: Node.js compiles at run time. SystemCallFilter, SystemCallArchitectures,
# LockPersonality and RestrictSUIDSGID: workloads are any programs, and take their own rights away beyond these.

[Install]
WantedBy=multi-user.target
`);
}

export interface ServiceUsers {
  readonly group: string;
  readonly proxyUid: number;
  readonly flowsUid: number;
}

/** sysusers.d(5): the group that may use the agent's socket, and names for the ids that the agent gives to what strangers talk to. */
export function usersText({ group, proxyUid, flowsUid }: ServiceUsers): string {
  return sealed(`# Members may use the agent's socket, and so whatever the agent can do.
g ${group} -
# Names for the user ids of the ingress and of ulogd, so that nobody else gets them. They own nothing and can not log in.
u clawnode-proxy ${proxyUid}:65534 "clawnode ingress" /
u clawnode-flows ${flowsUid}:65534 "clawnode flow log" /
`);
}

const SEAL = /^# Written by `clawnode install-service`, checksum ([0-9a-f]{16})\. [^\n]*\n/;

/** Whose text it is: ours as written, ours with changes, or somebody else's. */
export function authorOf(text: string): 'us' | 'edited' | 'other' {
  const [line, checksum] = SEAL.exec(text) ?? [];
  if (line === undefined) return 'other';
  return checksumOf(text.slice(line.length)) === checksum ? 'us' : 'edited';
}

function sealed(body: string): string {
  return `# Written by \`clawnode install-service\`, checksum ${checksumOf(body)}. Changes belong into a drop-in: \`systemctl edit clawnode\`.\n${body}`;
}

function checksumOf(body: string): string {
  return createHash('sha256').update(body).digest('hex').slice(0, 16);
}

/** systemd puts variables into arguments, and never into the program's own path: there a $ is a $. */
function commandOf([node, launcher]: UnitOptions['program']): string {
  return `${quoted(node)} ${argument(launcher)}`;
}

/** The inverse of how an Exec line is written. */
export function wordsOf(line: string): string[] {
  const words = [...line.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/g)].map(([, inQuotes, plain]) => (inQuotes ?? plain ?? '').replaceAll(/\\(.)/g, '$1').replaceAll('%%', '%'));
  return words.map((word, index) => (index === 0 ? word : word.replaceAll('$$', '$')));
}

/** Why no Exec line can name this path, in words; undefined when one can. */
export function whyUnspeakable(path: string, { isProgram }: { isProgram: boolean }): string | undefined {
  if (/\p{Cc}/u.test(path)) return `${JSON.stringify(path)} holds a control character`;
  return isProgram && /["'\\]/.test(path) ? `systemd starts no program whose path holds quotes or a backslash, as in ${path}` : undefined;
}

function argument(text: string): string {
  return quoted(text.replaceAll('$', '$$$$'));
}

/** One word of an Exec line: % stands for something else there, quotes and backslashes need a backslash. */
function quoted(word: string): string {
  const escaped = word.replaceAll('%', '%%').replaceAll(/["\\]/g, String.raw`\$&`);
  return /^[\w@%+=:,./$-]+$/.test(escaped) ? escaped : `"${escaped}"`;
}
