/**
 * A full connection tracking table on the real kernel. `nf_conntrack_max` can be lowered for the whole machine only, but each network
 * namespace counts its own entries against it, so the test fills the table of its own.
 */
import { strict as assert } from 'node:assert';
import { createWriteStream } from 'node:fs';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import { z } from 'zod';
import { openConntrack } from '../../src/drivers/conntrack.ts';
import { run } from '../../src/drivers/exec.ts';
import { inspectMachine } from '../../src/surfaces/cli/doctor/inspect.ts';
import { answered, closeEverything, host, inside, openTestAgent, type TestAgent } from './agent-fixture.ts';
import { enterNamespace, stdoutOf } from './namespace.ts';

const { signal } = new AbortController();
const status = z.looseObject({ conntrack: z.object({ entries: z.number(), maximum: z.number() }), kernel: z.looseObject({ inSync: z.boolean() }), warnings: z.array(z.string()) });
let agent: TestAgent;

before(async () => {
  await enterNamespace();
  agent = await openTestAgent();
});

after(closeEverything);

test('a table that is full is told by status, metrics and doctor; calls work, known flows go on, and afterwards new ones do', { timeout: 300_000 }, async (t) => {
  const version = /v(\d+)\.(\d+)\.(\d+)/.exec(await stdoutOf('conntrack', '--version'))?.slice(1).map(Number) ?? [];
  const [major = 0, minor = 0, patch = 0] = version;
  if (major * 10_000 + minor * 100 + patch < 10_407) return t.skip(`NOT TESTED: conntrack ${version.join('.')} can not fill the table; 1.4.7 can`);

  await agent.server('web', { labels: { app: 'web' } });
  for (const name of ['dns-1', 'dns-2']) await agent.server(name, { labels: { app: 'dns' }, listen: ['udp:5300'] });
  const vip = await agent.service('web', { selector: { app: 'web' }, port: 80, targetPort: 8080 });
  const dns = await agent.service('dns', { selector: { app: 'dns' }, port: 53, protocol: 'udp', targetPort: 5300 });
  const client = inside(await agent.workload('client', { command: ['sleep', '1000'] }));
  answered(await client.tcp(vip, 80));
  const { name } = answered(await client.udp(dns, 53, { key: 'known' }));
  const { maximum } = (await openConntrack().size()) ?? assert.fail('nothing is tracked');
  await fill(maximum);

  const full = status.parse(await agent.invoke('network.status'));
  assert.deepEqual(full.conntrack, { entries: maximum, maximum });
  assert.match(full.warnings.join('\n'), new RegExp(`connection tracking table is full \\(${maximum} of ${maximum}\\): new connections are dropped; .*nf_conntrack_max`));
  const finding = (await inspectMachine(signal)).find((candidate) => candidate.name === 'connections');
  assert.equal(finding?.state, 'warning');
  assert.match(finding.detail, new RegExp(`^${maximum} of ${maximum} tracked, `));
  assert.match(finding.fix ?? '', /sysctl .*net\.netfilter\.nf_conntrack_max=/);
  // That the table is really full: the kernel drops what is new. What it knows goes on.
  assert.equal((await client.tcp(vip, 80, { timeoutMs: 1000 })).error, 'SILENT');
  assert.equal(answered(await client.udp(dns, 53, { key: 'known' })).name, name);

  await agent.service('while-full', { port: 80, endpoints: [{ ip: '192.0.2.9' }] });
  const workload = await agent.workload('while-full', { command: ['sleep', '1000'] });
  assert.match(workload.ip, /^10\.200\.1\./);
  assert.equal(status.parse(await agent.invoke('network.status')).kernel.inSync, true);
  await agent.stop(name);
  // A stop deletes the entries of the address, so the table has a little room again, and a restart finds its way through all others.
  await agent.close();
  await agent.reopen();
  assert.match(status.parse(await agent.invoke('network.status')).warnings.join('\n'), /connection tracking table is nearly full/);
  const metrics = await (await fetch('http://127.0.0.1:10201/metrics', { signal: AbortSignal.timeout(5000) })).text();
  assert.match(metrics, new RegExp(`^clawnode_conntrack_entries_max ${maximum}$`, 'm'));
  assert.ok(Number(/^clawnode_conntrack_entries (\d+)$/m.exec(metrics)?.[1]) > 0.9 * maximum);

  await run(['conntrack', '-F']);
  answered(await client.tcp(vip, 80));
  answered(await host.tcp(vip, 80));
  assert.notEqual(answered(await client.udp(dns, 53, { key: 'known' })).name, name);
  assert.deepEqual(status.parse(await agent.invoke('network.status')).warnings.filter((warning) => warning.includes('tracking')), []);
});

/** Fills the table with established connections between addresses that nobody has: those are never dropped to make room. */
async function fill(maximum: number): Promise<void> {
  const file = createWriteStream('/run/entries');
  for (let n = 0; n <= maximum; n += 1) {
    const line = `-A -s 172.16.${(n >> 8) & 255}.${n & 255} -d 172.17.0.1 -p tcp --sport ${1024 + (n >> 16)} --dport 80 --state ESTABLISHED -u SEEN_REPLY,ASSURED -t 1000\n`;
    if (!file.write(line)) await once(file, 'drain');
  }
  file.end();
  await once(file, 'close');
  // It ends with 1 at the entry that no longer fits.
  const { stderr } = await run(['conntrack', '--load-file', '/run/entries'], { okExitCodes: [1], timeoutMs: 120_000 });
  assert.match(stderr, /not enough memory/);
}
