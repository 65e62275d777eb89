/**
 * A skill that somebody else wrote for our commands, taken as it is: the real OpenClaw host loads it beside our binary, and
 * its calls, rules and patterns do on a real kernel what it says. CLAWNODE_TEST_SKILL names another file than ours.
 */
import assert from 'node:assert/strict';
import { copyFile, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { test, type TestContext } from 'node:test';
import { parse } from 'yaml';
import { z } from 'zod';
import { openSandbox, type Sandbox } from '../../src/sandbox/sandbox.ts';
import { ask } from '../../src/surfaces/cli/demo-requests.ts';
import { launcher } from '../cli/cli-process.ts';
import { checkout, eventually, runInside } from '../cli/sandbox-fixture.ts';
import { skillExamples, type SkillExample } from '../tools/skill-examples.ts';
import { saidOfCommands, skillPatterns, skillPromises, type SkillObject, type SkillPattern } from '../tools/skill-text.ts';
import { openHost } from './openclaw-host.ts';
import { sandboxCli, type Answer, type SandboxCli, type Served } from './sandbox-cli.ts';
import { connectFrom, spreadInside, spreadOutside } from './sandbox-packets.ts';

const file = resolve(process.env['CLAWNODE_TEST_SKILL'] ?? join(import.meta.dirname, 'skill-as-written.md'));
const skill = await readFile(file, 'utf8');
const examples = skillExamples(skill);
const patterns = skillPatterns(skill);
const promises = skillPromises(skill);
const never = new AbortController().signal;

const labels = z.record(z.string(), z.string());
const service = z.looseObject({ name: z.string(), selector: labels, port: z.int() });
const ingress = z.looseObject({ name: z.string(), rules: z.array(z.looseObject({ host: z.string(), path: z.string(), service: z.string() })), tls: z.boolean().default(false) });
const rule = z.looseObject({ port: z.int(), from: z.union([z.object({ selector: labels }), z.object({ cidr: z.string() })]) });
const policy = z.looseObject({ name: z.string(), selector: labels, ingress: z.array(rule), egress: z.array(z.unknown()) });

test('the host loads it beside our binary, before the skill that we bring, and asks for nothing else', async (t) => {
  const host = await openHost();
  t.after(host.close);
  const name = z.object({ name: z.string() }).parse(parse(/^---\n([^]*?)\n---\n/.exec(skill)?.[1] ?? '')).name;
  const theirs = join(host.home, '.openclaw', 'skills', name);
  // The host gives a plugin's skills the rank of such an extra directory.
  const ours = join(host.home, 'ours', name);
  const bin = join(host.home, 'bin');
  for (const directory of [theirs, ours, bin]) await mkdir(directory, { recursive: true });
  await copyFile(file, join(theirs, 'SKILL.md'));
  await copyFile(join(checkout, 'SKILL.md'), join(ours, 'SKILL.md'));
  await writeFile(join(host.home, '.openclaw', 'openclaw.json'), JSON.stringify({ skills: { load: { extraDirs: [join(host.home, 'ours')] } } }));
  await symlink(launcher, join(bin, 'clawnode'));
  const info = z.object({ filePath: z.string(), eligible: z.boolean(), modelVisible: z.boolean(), missing: z.record(z.string(), z.array(z.string())) });
  const seen = async (path: readonly string[]) => {
    const { missing, ...rest } = info.parse(await host.json(['skills', 'info', name], { path }));
    return { ...rest, missing: Object.entries(missing).flatMap(([kind, names]) => names.map((each) => `${kind} ${each}`)) };
  };
  const filePath = join(theirs, 'SKILL.md');
  assert.deepEqual(await seen([bin]), { filePath, eligible: true, modelVisible: true, missing: [] });
  assert.deepEqual(await seen([]), { filePath, eligible: false, modelVisible: false, missing: ['bins clawnode'] });
});

test('every call works as it is written, and answers what is promised', async (t) => {
  assert.ok(examples.length > 5 && promises.size > 0, file);
  const { sandbox, cli } = await open(t);
  const client = await cli.serve('client', { app: 'client' }, [8080]);
  for (const [command, fields] of saidOfCommands(skill)) {
    assert.equal(command, 'workload.run');
    for (const field of fields) assert.ok(client.answer[field] !== undefined, `${command} answers no ${field}`);
  }
  const vips: string[] = [];
  const kept = new Set(promises.keys());
  for (const example of inOrder(examples)) {
    const selected = await beforehand(cli, example);
    const given = z.record(z.string(), z.unknown()).parse(example.params);
    const answer = await cli.invoke(example.command, ...(Object.keys(given).length === 0 ? [] : [given]));
    if (promises.has(example.section)) kept.delete(example.section);
    checkPromises(example, answer);
    if (example.command === 'service.create') vips.push(await serviceWorks(sandbox, { answer, client }));
    if (example.command === 'ingress.create') await onlyWithTls(sandbox, { given: ingress.parse(example.params), answer });
    if (example.command === 'network.policy.create' && selected !== undefined) await cutOff(sandbox, { selected, client });
    if (example.command === 'network.status') statusTells(answer);
  }
  assert.deepEqual([...kept], [], 'what is promised under these headings was not looked at');
  // What was created is deleted again, and nothing of it is left in the kernel.
  const { stdout } = await runInside(sandbox, ['iptables-save']);
  for (const vip of vips) {
    assert.ok(!stdout.includes(` ${vip}/32 `), vip);
    assert.notEqual(await connectFrom(sandbox, client.id, { host: vip, port: 8080 }), 'CONNECTED');
  }
  for (const list of ['service.list', 'ingress.list', 'network.policy.list']) assert.equal((await cli.invoke(list))['count'], 0, list);
});

test('every rule works in a policy', async (t) => {
  const { sandbox, cli } = await open(t);
  const rules = patterns.flatMap(({ objects }) => objects).flatMap(({ value }) => ('name' in value ? [] : [rule.parse(value)]));
  assert.ok(rules.length > 0);
  const stranger = await cli.serve('stranger', { app: 'stranger' }, [8080]);
  for (const [index, given] of rules.entries()) {
    const other = given.port + 1;
    const target = await cli.serve(`target-${index}`, { app: `target-${index}` }, [given.port, other]);
    const made = await cli.invoke('network.policy.create', { name: `rule-${index}`, selector: { app: `target-${index}` }, ingress: [given] });
    assert.equal(made['enforced'], true, JSON.stringify(made));
    const byLabel = 'selector' in given.from;
    const friend = 'selector' in given.from ? await cli.serve(`friend-${index}`, given.from.selector, [8080]) : stranger;
    assert.equal(await connectFrom(sandbox, friend.id, { host: target.meshIp, port: given.port }), 'CONNECTED');
    assert.equal(await connectFrom(sandbox, friend.id, { host: target.meshIp, port: other }), 'ECONNREFUSED');
    assert.equal(await connectFrom(sandbox, stranger.id, { host: target.meshIp, port: given.port }), byLabel ? 'ECONNREFUSED' : 'CONNECTED');
  }
});

test('every pattern leads to what it is for', async (t) => {
  const { sandbox, cli } = await open(t);
  const stranger = await cli.serve('stranger', { app: 'stranger' }, [8080]);
  const held: string[] = [];
  for (const pattern of patterns.filter(({ objects }) => objects.every(({ value }) => 'name' in value))) {
    const of = (command: string): SkillObject[] => pattern.objects.filter(({ value }) => commandFor(value) === command);
    const [services, ingresses, policies] = [of('service.create'), of('ingress.create'), of('network.policy.create')];
    if (services.length === 1 && ingresses.length === 1) held.push(await balances(sandbox, cli, pattern));
    else if (policies.length === 1) held.push(await isolates(sandbox, cli, { pattern, stranger }));
    else if (services.length > 1 && ingresses.length === 1) held.push(await routes(sandbox, cli, pattern));
    else assert.fail(`nobody knows what "${pattern.section}" is for`);
  }
  assert.deepEqual(held, ['balances', 'isolates', 'routes']);
});

/** Creates first, deletes last: a skill puts them side by side, and each works where its object is. */
function inOrder(given: readonly SkillExample[]): SkillExample[] {
  const rank = ({ command }: SkillExample): number => (command.endsWith('.create') ? 0 : command.endsWith('.delete') ? 2 : 1);
  return given.toSorted((one, other) => rank(one) - rank(other));
}

/** A workload for what selects one. */
async function beforehand(cli: SandboxCli, { command, params }: SkillExample): Promise<Served | undefined> {
  const { data } = z.object({ name: z.string(), selector: labels, port: z.int().default(8080) }).safeParse(params);
  return data === undefined || !command.endsWith('.create') ? undefined : cli.serve(`${data.name}-1`, data.selector, [data.port]);
}

function checkPromises({ section, command }: SkillExample, answer: Answer): void {
  const { fields = [], each = [] } = promises.get(section) ?? {};
  for (const field of fields) assert.ok(Object.hasOwn(answer, field), `${command} answers no ${field}: ${JSON.stringify(answer)}`);
  if (each.length === 0) return;
  const [first] = z.array(z.record(z.string(), z.unknown())).parse(Object.values(answer).find(Array.isArray));
  for (const field of each) assert.ok(first !== undefined && Object.hasOwn(first, field), `${command} lists no ${field}: ${JSON.stringify(answer)}`);
}

async function serviceWorks(sandbox: Sandbox, { answer, client }: { answer: Answer; client: Served }): Promise<string> {
  const { clusterIp, port } = z.object({ clusterIp: z.string(), port: z.int(), success: z.literal(true), enforced: z.literal(true) }).parse(answer);
  assert.match(clusterIp, /^10\.201\./);
  assert.equal(await connectFrom(sandbox, client.id, { host: clusterIp, port }), 'CONNECTED');
  const { stdout } = await runInside(sandbox, ['iptables-save']);
  assert.ok(stdout.includes(` ${clusterIp}/32 `), stdout);
  return clusterIp;
}

/** TLS is not built yet: then nothing is served, rather than in plain. */
async function onlyWithTls(sandbox: Sandbox, { given: { tls, rules }, answer }: { given: z.output<typeof ingress>; answer: Answer }): Promise<void> {
  assert.equal(answer['success'], true);
  assert.equal(answer['enforced'], !tls, JSON.stringify(answer));
  if (!tls) return;
  assert.match(String(answer['reason']), /TLS/);
  for (const { host, path } of rules) await assert.rejects(ask({ url: `${sandbox.ingressUrl}${path}`, host }, never), /status 404/);
}

async function cutOff(sandbox: Sandbox, { selected, client }: { selected: Served; client: Served }): Promise<void> {
  assert.equal(await connectFrom(sandbox, client.id, { host: selected.meshIp, port: 8080 }), 'ECONNREFUSED');
  assert.equal(await connectFrom(sandbox, selected.id, { host: client.meshIp, port: 8080 }), 'ECONNREFUSED');
}

function statusTells(answer: Answer): void {
  const pools = z.object({ used: z.int(), free: z.int() });
  const told = z.object({
    mesh: z.object({ nodeCount: z.literal(1), nodes: z.tuple([z.object({ id: z.string(), meshIp: z.null(), region: z.null() })]) }),
    wireguard: z.null(),
    serviceDiscovery: z.object({ serviceCount: z.int(), iptablesAvailable: z.literal(true), services: z.array(z.object({ name: z.string(), clusterIp: z.string(), endpoints: z.int() })).min(1) }),
    allocator: z.object({ stats: z.object({ clusterIps: pools, workloadIps: pools }) }),
  });
  assert.deepEqual(told.safeParse(answer).error?.issues, undefined);
}

function commandFor(value: Answer): string {
  if ('rules' in value) return 'ingress.create';
  if ('ingress' in value || 'egress' in value) return 'network.policy.create';
  if ('port' in value && 'name' in value) return 'service.create';
  throw new Error(`no command takes ${JSON.stringify(value)}`);
}

async function create(cli: SandboxCli, { value, promised }: SkillObject): Promise<Answer> {
  const answer = await cli.invoke(commandFor(value), value);
  for (const [field, text] of Object.entries(promised)) assert.equal(answer[field], text);
  return answer;
}

async function balances(sandbox: Sandbox, cli: SandboxCli, { objects, workloadLabels }: SkillPattern): Promise<string> {
  const answers: Answer[] = [];
  for (const object of objects) answers.push(await create(cli, object));
  const clusterIp = String(answers.find((answer) => 'clusterIp' in answer)?.['clusterIp']);
  const { port } = service.parse(objects.find(({ value }) => commandFor(value) === 'service.create')?.value);
  const { rules } = ingress.parse(objects.find(({ value }) => commandFor(value) === 'ingress.create')?.value);
  const names = ['web-1', 'web-2', 'web-3'];
  for (const name of names) await cli.serve(name, workloadLabels[0] ?? assert.fail('with which labels are workloads run?'), [port]);
  for (const { answers: spread, failures } of [await spreadInside(sandbox, { host: clusterIp, port }), await spreadOutside(sandbox, rules[0]?.host ?? '')]) {
    assert.deepEqual(failures, {});
    assert.deepEqual(Object.keys(spread).toSorted(), names);
  }
  return 'balances';
}

async function isolates(sandbox: Sandbox, cli: SandboxCli, { pattern, stranger }: { pattern: SkillPattern; stranger: Served }): Promise<string> {
  const [object = assert.fail()] = pattern.objects;
  const { selector, ingress: rules, egress } = policy.parse(object.value);
  const [{ port, from } = assert.fail()] = rules;
  assert.ok('selector' in from && egress.length === 0);
  const other = port + 1;
  const database = await cli.serve('database', selector, [port, other]);
  const friend = await cli.serve('friend', from.selector, [8080]);
  const { clusterIp } = await cli.invoke('service.create', { name: 'elsewhere', selector: { app: 'stranger' }, port: 8080 });
  const outside = { host: String(clusterIp), port: 8080 };
  const everything = async (): Promise<string[]> => [
    await connectFrom(sandbox, friend.id, { host: database.meshIp, port }),
    await connectFrom(sandbox, friend.id, { host: database.meshIp, port: other }),
    await connectFrom(sandbox, stranger.id, { host: database.meshIp, port }),
    await connectFrom(sandbox, database.id, { host: friend.meshIp, port: 8080 }),
    await connectFrom(sandbox, database.id, outside),
  ];
  assert.deepEqual(new Set(await everything()), new Set(['CONNECTED']));
  assert.equal((await create(cli, object))['enforced'], true);
  assert.deepEqual(await everything(), ['CONNECTED', 'ECONNREFUSED', 'ECONNREFUSED', 'ECONNREFUSED', 'ECONNREFUSED']);
  return 'isolates';
}

async function routes(sandbox: Sandbox, cli: SandboxCli, { objects }: SkillPattern): Promise<string> {
  for (const object of objects) {
    const answer = await create(cli, object);
    if (commandFor(object.value) === 'service.create') {
      const { name, selector, port } = service.parse(object.value);
      await cli.serve(`${name}-1`, selector, [port]);
    } else {
      const given = ingress.parse(object.value);
      await onlyWithTls(sandbox, { given, answer });
      // The same routes in plain, so that they are seen to be right.
      if (given.tls) await cli.invoke('ingress.update', { name: given.name, tls: false });
      for (const { host, path, service: name } of given.rules) {
        await eventually(() => ask({ url: `${sandbox.ingressUrl}${path}/x`, host }, never).catch(String), (seen) => seen === `${name}-1`);
      }
    }
  }
  return 'routes';
}

async function open(t: TestContext): Promise<{ sandbox: Sandbox; cli: SandboxCli }> {
  const sandbox = await openSandbox({}, never);
  t.after(sandbox.close);
  return { sandbox, cli: sandboxCli(sandbox) };
}
