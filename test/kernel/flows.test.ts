/** The reader of the kernel's log on real packets: what rules log is listed, what does not work is said, and what dies comes back. */
import { strict as assert } from 'node:assert';
import { mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { after, beforeEach, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import { selfTestRule } from '../../src/compile/flow-self-test.ts';
import { run, start } from '../../src/drivers/exec.ts';
import { openFlows, type Flows } from '../../src/flows/flows.ts';
import { ulogdConfig } from '../../src/flows/ulogd-config.ts';
import { NFLOG_GROUP, NFLOG_PREFIXES } from '../../src/model/flow.ts';
import { aPolicy, aWorkload, desired, node } from '../compile/state.ts';
import { until } from './agent-fixture.ts';
import { clientIn } from './agent-prober.ts';
import { IPTABLES } from './backend.ts';
import { enterNamespace, stdoutOf } from './namespace.ts';

await enterNamespace();
const DIRECTORY = '/run/clawnode-test/flows';
mkdirSync(DIRECTORY, { recursive: true });
const workloads = [aWorkload({ id: '0000000a', name: 'web', ip: '10.200.1.2' }), aWorkload({ id: '0000000b', name: 'db', namespace: 'shop', ip: '10.200.1.3' })];
const policies = [aPolicy({ name: 'closed', namespace: 'shop', ingress: [] }), aPolicy({ name: 'trial', egress: [], mode: 'audit' })];
const vips = node.ranges.clusterIp;
const SELF_TEST_RULE = selfTestRule(vips);
const nflog = (prefix: string): string => `-j NFLOG --nflog-prefix "${prefix}" --nflog-group ${NFLOG_GROUP}`;

for (const [index, { id, ip }] of workloads.entries()) {
  await run(['ip', 'netns', 'add', `w${index}`]);
  await run(['ip', '-batch', '-'], { input: `link add clawv${id} type veth peer name eth0 netns w${index}\nlink set clawv${id} up\nroute add ${ip}/32 dev clawv${id}\n` });
  await run(['ip', '-n', `w${index}`, '-batch', '-'], { input: `link set lo up\nlink set eth0 up\naddr add ${ip}/24 dev eth0 noprefixroute\nroute add 10.200.1.1 dev eth0 scope link\nroute add default via 10.200.1.1\n` });
}
await run(['ip', '-batch', '-'], { input: `addr add 10.200.1.1/32 dev lo\nroute add local ${vips} dev lo src 10.200.1.1\n` });
await run(['sysctl', '-qw', 'net.ipv4.ip_forward=1']);
await run([`${IPTABLES}-restore`, '--noflush'], {
  input: `*filter
:CLAW-TEST - [0:0]
:CLAW-REJECT - [0:0]
:CLAW-OUTPUT - [0:0]
-A OUTPUT -d ${vips} -j CLAW-OUTPUT
-A CLAW-OUTPUT ${SELF_TEST_RULE}
-A CLAW-OUTPUT -j CLAW-REJECT
-A CLAW-REJECT -p tcp -j REJECT --reject-with tcp-reset
-A CLAW-REJECT -j REJECT --reject-with icmp-port-unreachable
-A FORWARD -j CLAW-TEST
-A INPUT -i clawv+ -m conntrack --ctstate NEW -p tcp --dport 22 ${nflog(NFLOG_PREFIXES.deny.host)}
-A CLAW-TEST -m conntrack --ctstate NEW -p tcp --dport 5432 ${nflog(NFLOG_PREFIXES.deny.ingress)}
-A CLAW-TEST -m conntrack --ctstate NEW -p tcp --dport 5432 -j REJECT --reject-with icmp-admin-prohibited
-A CLAW-TEST -m conntrack --ctstate NEW -p udp ${nflog(NFLOG_PREFIXES.audit.egress)}
COMMIT
`,
});

const web = clientIn('w0');
const logged: string[] = [];
const logger = pino({ level: 'info' }, { write: (line: string) => void logged.push(line) });
const opened: Flows[] = [];
after(async () => {
  for (const flows of opened) await flows.close();
  await web.close();
});
beforeEach(async () => {
  for (const flows of opened.splice(0)) await flows.close();
  logged.length = 0;
});

async function open(fields: Partial<Parameters<typeof openFlows>[0]> = {}): Promise<Flows> {
  const flows = await openFlows({
    directory: DIRECTORY,
    uid: undefined,
    desired: desired({ workloads, policies }),
    clusterIpRange: vips,
    programmed: async () => undefined,
    logger,
    timing: { answerMs: 1000, afterFailureMs: 300, afterSuccessMs: 400 },
    ...fields,
  });
  opened.push(flows);
  return flows;
}

async function works(flows: Flows): Promise<void> {
  await until('the self-test succeeds', () => assert.ok(flows.status().works, flows.status().reason));
}

/** This namespace's ulogd, and no other one of the machine. */
async function ulogdPids(): Promise<number[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  return pids.filter((pid) => commandOf(pid).startsWith('ulogd ')).map(Number);
}

/** Empty for one that has ended and was not collected by its parent. */
function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
  } catch {
    return '';
  }
}

test('the rule of the self-test is kept as it is written, by both backends', async () => {
  assert.ok((await stdoutOf(`${IPTABLES}-save`, '-t', 'filter')).includes(`-A CLAW-OUTPUT ${SELF_TEST_RULE}\n`));
  const other = IPTABLES === 'iptables-nft' ? 'iptables-legacy' : 'iptables-nft';
  await run([`${other}-restore`, '--noflush'], { input: `*filter\n:CLAW-OTHER - [0:0]\n-A CLAW-OTHER ${SELF_TEST_RULE}\nCOMMIT\n` });
  assert.ok((await stdoutOf(`${other}-save`, '-t', 'filter')).includes(`-A CLAW-OTHER ${SELF_TEST_RULE}\n`));
  await run([`${other}-restore`, '--noflush'], { input: '*filter\n:CLAW-OTHER - [0:0]\n-X CLAW-OTHER\nCOMMIT\n' });
});

test('denied and audited connections are listed with both ends, port, policies and time, at once', async () => {
  const flows = await open();
  assert.deepEqual([flows.status().works, flows.status().starting], [false, true]);
  await works(flows);
  const before = Date.now();
  const attempt = await web.tcp('10.200.1.3', 5432, { timeoutMs: 2000 });
  assert.equal(attempt.error, 'EHOSTUNREACH');
  await web.tcp('10.200.1.1', 22, { timeoutMs: 2000 });
  await web.udp('10.200.1.3', 53, { timeoutMs: 200 });
  const { flows: told } = await until('three flows are listed', () => {
    const found = flows.query({ limit: 10 });
    assert.equal(found.count, 3);
    return found;
  });
  const [audited, toNode, denied] = told;
  const common = { from: 'default/web', fromIp: '10.200.1.2', count: 1 };
  assert.ok(audited !== undefined && toNode !== undefined && denied !== undefined);
  const { time, ...rest } = denied;
  assert.deepEqual(rest, { ...common, to: 'shop/db', toIp: '10.200.1.3', port: 5432, protocol: 'tcp', verdict: 'deny', direction: 'ingress', policy: 'shop/closed', mode: 'enforce' });
  assert.ok(Math.abs(Date.parse(time) - before) < 5000, `${time} is not now`);
  assert.deepEqual({ ...toNode, time }, { ...common, time, to: 'entity:host', toIp: '10.200.1.1', port: 22, protocol: 'tcp', verdict: 'deny', direction: 'host', policy: null, mode: 'enforce' });
  assert.deepEqual({ ...audited, time }, { ...common, time, to: 'shop/db', toIp: '10.200.1.3', port: 53, protocol: 'udp', verdict: 'audit', direction: 'egress', policy: 'default/trial', mode: 'audit' });
  const { denied: deniedCount, audited: auditedCount, dropped, works: fine } = flows.status();
  assert.deepEqual({ deniedCount, auditedCount, dropped, fine }, { deniedCount: 2, auditedCount: 1, dropped: 0, fine: true });
});

test('a flood of attempts is a few flows with their counts, and no event of it is lost', async () => {
  const flows = await open();
  await works(flows);
  // Each socket has its own source port, and so is a connection of its own.
  await Promise.all(Array.from({ length: 200 }, () => web.udp('10.200.1.3', 53, { timeoutMs: 200 })));
  await until('all are counted', () => assert.equal(flows.status().audited, 200));
  const { flows: told } = flows.query({ verdict: 'audit', limit: 500 });
  assert.equal(told.reduce((sum, { count }) => sum + count, 0), 200);
  assert.ok(told.length < 20, `${told.length} flows`);
  assert.equal(flows.status().dropped, 0);
});

test('ulogd has one right and no file of its own', async () => {
  await works(await open());
  const [pid] = await ulogdPids();
  const status = readFileSync(`/proc/${pid ?? 0}/status`, 'utf8');
  // Bit 12 is CAP_NET_ADMIN.
  for (const set of ['CapPrm', 'CapEff', 'CapBnd']) assert.match(status, new RegExp(`^${set}:\\t0000000000001000$`, 'm'));
  assert.match(status, /^NoNewPrivs:\t1$/m);
  assert.deepEqual((await readdir(DIRECTORY)).toSorted(), ['events.sock', 'ulogd.conf']);
  assert.equal(statSync(DIRECTORY).mode & 0o777, 0o700);
  const loggers = readFileSync('/proc/net/netfilter/nf_log', 'utf8');
  assert.doesNotMatch(loggers, /^ *2 nfnetlink_log /m);
});

test('a killed ulogd is started again, what follows is listed, and meanwhile the status says that nothing is', async () => {
  const flows = await open();
  await works(flows);
  const [pid = 0] = await ulogdPids();
  process.kill(pid, 'SIGKILL');
  const { reason } = await until('the loss is noticed', () => {
    const status = flows.status();
    assert.ok(!status.works);
    return status;
  });
  assert.match(reason ?? '', /^ulogd has ended and is started again$/);
  assert.equal(flows.status().listeningSince, undefined);
  await works(flows);
  const pids = await ulogdPids();
  assert.ok(pids.length === 1 && !pids.includes(pid), `${pids.join(' ')} after ${pid}`);
  await web.tcp('10.200.1.3', 5432, { timeoutMs: 2000 });
  await until('it is listed', () => assert.equal(flows.query({ limit: 1 }).count, 1));
  assert.ok(logged.some((line) => line.includes('ulogd has ended')) && logged.at(-1)?.includes('are told'));
});

test('without the rules the self-test fails, says so, and succeeds when they are there', async () => {
  await run([IPTABLES, '-D', 'OUTPUT', '-d', vips, '-j', 'CLAW-OUTPUT']);
  const flows = await open();
  const { reason, starting } = await until('the self-test fails', () => {
    const status = flows.status();
    assert.ok(!status.starting);
    return status;
  });
  assert.deepEqual({ reason, starting }, { reason: 'an event of the self-test did not come within 1000 ms', starting: false });
  await run([IPTABLES, '-A', 'OUTPUT', '-d', vips, '-j', 'CLAW-OUTPUT']);
  await works(flows);
});

test('a ulogd that hangs is noticed by the next self-test', async () => {
  const flows = await open();
  await works(flows);
  const [pid = 0] = await ulogdPids();
  process.kill(pid, 'SIGSTOP');
  await until('the self-test fails', () => assert.match(flows.status().reason ?? '', /self-test/));
  process.kill(pid, 'SIGCONT');
  await works(flows);
});

test('while another program holds the log group, it is named; when it lets go, ours takes over', async () => {
  writeFileSync('/run/holder.conf', ulogdConfig().replace('mode="unix"\nfile="events.sock"', 'file="/dev/null"'));
  const holder = start(['ulogd', '-c', '/run/holder.conf'], { stdio: 'ignore' });
  try {
    await until('it listens to the kernel', () => assert.match(readFileSync('/proc/net/netlink', 'utf8'), new RegExp(`^\\S+ +12 +${holder.pid} `, 'm')));
    // Only the machine's own root may read who holds a group, also in a network namespace of its own.
    const holders = await readFile('/proc/net/netfilter/nfnetlink_log', 'utf8').catch(() => undefined);
    if (holders === undefined) await delay(1000);
    else await until('the group is held', () => assert.match(readFileSync('/proc/net/netfilter/nfnetlink_log', 'utf8'), new RegExp(`^ *${NFLOG_GROUP} `, 'm')));
    const flows = await open();
    const { reason } = await until('it is refused', () => {
      const status = flows.status();
      assert.ok(!status.starting);
      return status;
    });
    const name = holders === undefined ? '' : ` (log group ${NFLOG_GROUP} is held by process ${holder.pid} ulogd)`;
    assert.equal(reason, `ulogd has ended and is started again: unable to bind to log group ${NFLOG_GROUP}${name}`);
    holder.kill('SIGKILL');
    await works(flows);
  } finally {
    holder.kill('SIGKILL');
  }
});

test('without ulogd the status says how to get it, and it is used as soon as it is there', async () => {
  const usual = process.env['PATH'] ?? '';
  const bin = '/run/clawnode-test/bin';
  mkdirSync(bin, { recursive: true });
  for (const program of ['setpriv', 'env']) symlinkSync((await stdoutOf('sh', '-c', `command -v ${program}`)).trim(), `${bin}/${program}`);
  const ulogd = (await stdoutOf('sh', '-c', 'command -v ulogd')).trim();
  process.env['PATH'] = bin;
  try {
    const flows = await open();
    const { reason } = await until('it is missed', () => {
      const status = flows.status();
      assert.ok(!status.starting);
      return status;
    });
    assert.match(reason ?? '', /^ulogd2 is not installed: install it with `clawnode doctor --fix`, or `apt-get install [^`]*ulogd2-json`/);
    symlinkSync(ulogd, `${bin}/ulogd`);
    await works(flows);
  } finally {
    process.env['PATH'] = usual;
  }
});

test('nothing of it is left when it is closed, nor when its parent is killed', async () => {
  await works(await open());
  logged.length = 0;
  for (const each of opened.splice(0)) await each.close();
  assert.deepEqual(logged, [], 'an end that was asked for is no loss');
  assert.deepEqual(await ulogdPids(), []);
  const url = new URL('../../src/flows/reader.ts', import.meta.url).href;
  const script = `const { openReader } = await import(${JSON.stringify(url)}); await openReader({ directory: ${JSON.stringify(DIRECTORY)}, uid: undefined, onLine() {}, onConnected() {}, onLost() {} });`;
  const parent = start([process.execPath, '--input-type=module', '-e', script], { stdio: 'ignore' });
  await until('it runs', async () => assert.equal((await ulogdPids()).length, 1));
  parent.kill('SIGKILL');
  await until('it is gone', async () => assert.deepEqual(await ulogdPids(), []));
  // And the next one takes over.
  await works(await open());
});
