/** Which backend the rules are kept in, where others have rules in one or both, after a change of configuration, and what is left behind; on the real kernel. */
import { strict as assert } from 'node:assert';
import { after, afterEach, before, test } from 'node:test';
import { pino } from 'pino';
import { z } from 'zod';
import { inspectBackend, type BackendWish } from '../../src/drivers/iptables-backend.ts';
import type { IptablesBackend } from '../../src/drivers/iptables-save.ts';
import { run } from '../../src/drivers/exec.ts';
import { openIptables } from '../../src/drivers/iptables.ts';
import { removeFromBackends, settleBackend } from '../../src/iptables-choice.ts';
import { enterNamespace, stdoutOf } from './namespace.ts';

const { signal } = new AbortController();
const HOST: BackendWish = { configured: 'auto', sandbox: false };
const NOTHING = { chains: new Map(), jumps: [] };
const OURS = {
  raw: NOTHING,
  filter: { chains: new Map([['CLAW-NETPOL', ['-j RETURN']], ['CLAW-FOREIGN', ['-j DROP']]]), jumps: [{ chain: 'FORWARD', rule: '-j CLAW-NETPOL', place: 'first' as const }] },
  nat: { chains: new Map([['CLAW-SERVICES', ['-j ACCEPT']]]), jumps: [] },
};
const said: { level: number; msg: string }[] = [];
const logger = pino({ level: 'info' }, { write: (line: string) => void said.push(JSON.parse(line)) });
const path = process.env['PATH'];

const settle = (wish: Partial<BackendWish> = {}): Promise<IptablesBackend> => settleBackend({ ...HOST, ...wish }, { logger, signal });
const saved = async (backend: IptablesBackend): Promise<string> =>
  (await Promise.all(['filter', 'nat'].map((table) => stdoutOf(`iptables-${backend}-save`, '-t', table)))).join('').replaceAll(/^#.*\n/gm, '').replaceAll(/\[\d+:\d+\]/g, '');
const accept = (backend: IptablesBackend, port: number): Promise<unknown> => run([`iptables-${backend}`, '-A', 'INPUT', '-p', 'tcp', '-m', 'tcp', '--dport', String(port), '-j', 'ACCEPT']);

/** What doctor finds of the backend: `STATE: DETAIL`. */
async function doctor(): Promise<string> {
  const clawnode = new URL('../../bin/clawnode.js', import.meta.url).pathname;
  const { stdout } = await run([process.execPath, clawnode, 'doctor', '--json'], { okExitCodes: [0, 1], timeoutMs: 30_000 });
  const { findings } = z.object({ findings: z.array(z.object({ name: z.string(), state: z.string(), detail: z.string() })) }).parse(JSON.parse(stdout));
  const found = findings.find(({ name }) => name === 'iptables backend') ?? assert.fail(stdout);
  return `${found.state}: ${found.detail}`;
}

async function program(backend: IptablesBackend): Promise<void> {
  const driver = openIptables({ backend });
  await driver.apply(OURS);
  await driver.close();
}

before(enterNamespace);
afterEach(async () => {
  process.env['PATH'] = path;
  said.length = 0;
  for (const backend of ['nft', 'legacy']) for (const table of ['filter', 'nat']) await run(['sh', '-ec', `iptables-${backend} -t ${table} -F; iptables-${backend} -t ${table} -X`]);
});
after(() => {
  process.env['PATH'] = path;
});

test('a sandbox uses nft', async () => {
  assert.equal(await settle({ sandbox: true }), 'nft');
  assert.deepEqual(said.map(({ msg }) => msg), ['rules are kept in iptables-nft: a sandbox uses nft']);
});

test('where others have rules, ours join them; where they have them in both, that is told', async () => {
  for (const [backend, other] of [['nft', 'legacy'], ['legacy', 'nft']] as const) {
    for (const port of [22, 80]) await accept(backend, port);
    assert.equal(await settle(), backend);
    assert.equal(said.at(-1)?.msg, `rules are kept in iptables-${backend}: it holds the rules of this machine (nft ${backend === 'nft' ? 2 : 0}, legacy ${backend === 'nft' ? 0 : 2})`);
    assert.match(await doctor(), new RegExp(`^ok: ${backend}: it holds the rules of this machine`));
    await accept(other, 443);
    assert.match(await doctor(), new RegExp(`^warning: ${backend}: .*nft and legacy both hold rules of others`));
    assert.equal(await settle(), backend);
    assert.match(said.at(-1)?.msg ?? '', /^both iptables-nft and iptables-legacy hold rules of others/);
    assert.equal(await settle({ configured: other }), other);
    for (const each of [backend, other]) await run([`iptables-${each}`, '-F']);
  }
});

for (const backend of ['nft', 'legacy'] as const) {
  const other = backend === 'nft' ? 'legacy' : 'nft';

  test(`ours in ${backend} stay there until a cleanup, whatever others have in ${other} and whatever is configured`, async () => {
    await program(backend);
    for (const port of [1, 2, 3, 4, 5]) await accept(other, port);
    await accept(backend, 6);
    for (const sandbox of [false, true]) {
      assert.equal(await settle({ sandbox }), backend);
      assert.equal(await settle({ sandbox, configured: backend }), backend);
      await assert.rejects(settle({ sandbox, configured: other }), { code: 'CONFIG_INVALID', path: 'iptablesBackend', hint: /clawnode cleanup/ });
    }
    const foreign = [await saved(other), (await saved(backend)).split('\n').filter((line) => !line.includes('CLAW-')).join('\n')];
    assert.ok((await removeFromBackends(signal)) > 0);
    assert.deepEqual([await saved(other), await saved(backend)], foreign);
    assert.equal(await removeFromBackends(signal), 0);
    assert.equal(await settle({ configured: other }), other);
  });

  test(`what is left of ours in ${other} beside all of ours in ${backend} is removed, and told`, async () => {
    await program(backend);
    await run([`iptables-${other}-restore`, '--noflush'], { input: '*filter\n:CLAW-NETPOL - [0:0]\n-A INPUT -p tcp -j ACCEPT\n-A FORWARD -j CLAW-NETPOL\nCOMMIT\n' });
    const whole = await saved(backend);
    assert.equal(await settle(), backend);
    assert.match(said.at(-1)?.msg ?? '', new RegExp(`^chains of ours were in iptables-${other} too`));
    assert.equal(await saved(backend), whole);
    assert.deepEqual(await inspectBackend(other), { ownChains: 0, foreignRules: 1 });
  });

  test(`without the programs of ${other}, ${backend} is used, and a cleanup works too`, async () => {
    await run(['sh', '-ec', `mkdir -p /run/only-${backend}; for folder in $(echo "$PATH" | tr : " "); do ln -s "$folder"/* /run/only-${backend}/ 2>/dev/null || true; done; rm -f /run/only-${backend}/iptables-${other}*`]);
    process.env['PATH'] = `/run/only-${backend}`;
    for (const sandbox of [false, true]) assert.equal(await settle({ sandbox }), backend);
    await assert.rejects(settle({ configured: other }), { code: 'MISSING_BINARY' });
    await program(backend);
    assert.ok((await removeFromBackends(signal)) > 0);
  });
}

test('a kernel without nf_tables, and a table that only nft can show, leave legacy', async () => {
  await run(['sh', '-ec', 'mkdir /run/broken; for name in iptables-nft iptables-nft-save iptables-nft-restore; do printf "#!/bin/sh\\necho \\"$name: Failed to initialize nft: Protocol not supported\\" >&2; exit 1\\n" > /run/broken/$name; done; chmod +x /run/broken/*']);
  process.env['PATH'] = `/run/broken:${path ?? ''}`;
  for (const sandbox of [false, true]) assert.equal(await settle({ sandbox }), 'legacy');
  assert.match(said.at(-1)?.msg ?? '', /nft can not be used: .*Protocol not supported/);
  assert.equal(await removeFromBackends(signal), 0);
  process.env['PATH'] = path;
  await run(['nft', 'add table ip nat; add chain ip nat x; add rule ip nat x numgen random mod 2 0 accept']);
  assert.match(await stdoutOf('iptables-nft-save'), /Table `nat' is incompatible/);
  assert.equal(await settle(), 'legacy');
  await assert.rejects(settle({ configured: 'nft' }), { code: 'NOT_SUPPORTED', message: /nat holds rules that only nft can show/ });
  await assert.rejects(removeFromBackends(signal), { code: 'NOT_SUPPORTED' });
  await program('legacy');
  assert.ok((await removeFromBackends(signal)) > 0, 'ours were found, so there are none in the other');
  await run(['nft', 'delete', 'table', 'ip', 'nat']);
});

