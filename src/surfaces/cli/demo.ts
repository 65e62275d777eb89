/** `clawnode demo`: the first pattern, for real, in a sandbox and through our own MCP server. Every step is observed or it fails. */
import { release } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { openSandbox, type Sandbox } from '../../sandbox/sandbox.ts';
import { connectDemoClient, type DemoClient } from './demo-client.ts';
import { DemoFailure, expect } from './demo-failure.ts';
import { ask, burst, type Sample, type Spread, type Target } from './demo-requests.ts';
import { createScreen, type Screen } from './demo-screen.ts';
import {
  awaitAnswersInside,
  burstInside,
  interfacesInside,
  killInside,
  rulesInside,
  streamInside,
  streamOutside,
  type Stream,
} from './demo-traffic.ts';
import { stoppedExitCode, stopSignal } from './stop-signal.ts';
import { errorText, parseArguments } from './usage.ts';

const NAMES = ['web-1', 'web-2', 'web-3'] as const;
const VICTIM = 'web-2';
const HOST = 'www.example.com';
const REQUESTS = 300;
const PARALLEL = 4;
const REFUSALS = 100;
/** Each server's share of 300 random picks lies within these but once in a million runs. */
const FAIR = { least: 0.2, most: 0.47 };
const SERVER = "require('node:http').createServer((_, answer) => answer.end(process.argv[1])).listen(8080)";

/** A change counts only once the kernel holds it. */
const enforced = z.literal(true);

/** Runs the demo. 0 when every step was observed, else 1, also when nobody reads it to its end; 128 + n when signal n stopped it. */
export async function demo(argv: readonly string[], stop: AbortSignal = stopSignal()): Promise<number> {
  parseArguments({ args: [...argv], options: {} });
  const unread = new AbortController();
  process.stdout.on('error', () => unread.abort());
  const signal = AbortSignal.any([stop, unread.signal]);
  const screen = createScreen(process.stdout);
  const startedAt = performance.now();
  screen.title('Clawbernetes networking: a service on the real kernel, asked for through MCP tools');
  try {
    await play(screen, signal);
    screen.done(`Every step was observed, in ${((performance.now() - startedAt) / 1_000).toFixed(1)} s.`);
    return 0;
  } catch (error) {
    if (signal.aborted) return stoppedExitCode(stop);
    showFailure(screen, error);
    return 1;
  }
}

interface Stage {
  readonly screen: Screen;
  readonly sandbox: Sandbox;
  readonly client: DemoClient;
  readonly signal: AbortSignal;
  readonly ingress: Target;
}

interface Published {
  readonly clusterIp: string;
  readonly workloadIps: readonly string[];
}

async function play(screen: Screen, signal: AbortSignal): Promise<void> {
  await using stack = new AsyncDisposableStack();

  screen.step('Open a sandbox: the real kernel, in namespaces of its own');
  const sandbox = stack.adopt(await openSandbox({}, signal), async (opened) => opened.close());
  screen.seen(`an agent runs inside, on Linux ${release().split('-', 1)[0]}; this machine is not touched`);

  screen.step('Start `clawnode mcp` and connect to it as an MCP client');
  const client = stack.use(await connectDemoClient({ socketPath: sandbox.socketPath, screen }, signal));
  const status = await client.call('network_status', {}, z.object({ mode: z.string(), kernel: z.object({ backend: z.string() }) }));
  expect(status.mode === 'sandbox', 'the agent is not in the sandbox', { expected: 'mode sandbox', seen: status });
  screen.seen(`${client.tools} tools; mode ${status.mode}, iptables ${status.kernel.backend}`);

  const stage: Stage = { screen, sandbox, client, signal, ingress: { url: `${sandbox.ingressUrl}/`, host: HOST } };
  const workloadIps = await runWorkloads(stage);
  await refuseNonsense(stage);
  const published = { workloadIps, clusterIp: await publish(stage) };
  await showBalance(stage, published);
  await killOne(stage, published);
  await deleteAll(stage, published);
}

async function runWorkloads({ screen, sandbox, client }: Stage): Promise<string[]> {
  screen.step('Run three HTTP servers, each in a network of its own');
  const ips: string[] = [];
  for (const name of NAMES) {
    const args = { name, labels: { app: 'web' }, command: [process.execPath, '-e', SERVER, name] };
    const { meshIp } = await client.call('workload_run', args, z.object({ meshIp: z.string(), state: z.literal('running') }));
    ips.push(meshIp);
  }
  await awaitAnswersInside(sandbox, ips.map((ip) => `http://${ip}:8080/`));
  screen.seen(`all three answer, on ${ips.join(', ')}`);
  return ips;
}

async function refuseNonsense({ screen, client }: Stage): Promise<void> {
  screen.step('Make a mistake: the error names the argument, and nothing has changed');
  const wrong = { name: 'web', selector: { app: 'web' }, port: 80_000 };
  const { code, path } = await client.callWrongly('service_create', wrong);
  expect(code === 'INVALID_ARGUMENT' && path === 'port', 'the error does not name the argument', { expected: 'INVALID_ARGUMENT at port', seen: { code, path } });
  const { count } = await client.call('service_list', {}, z.object({ count: z.int() }));
  expect(count === 0, 'the wrong call has left something', { expected: 'no service', seen: `${count}` });
  screen.seen('refused, and there is still no service');
}

/** Creates service and ingress; gives the ClusterIP. */
async function publish({ screen, sandbox, client, signal, ingress }: Stage): Promise<string> {
  screen.step('Put a service and an ingress in front of them');
  const args = { name: 'web', selector: { app: 'web' }, port: 80, targetPort: 8080 };
  const { clusterIp } = await client.call('service_create', args, z.object({ clusterIp: z.string(), enforced }));
  const rules = (await rulesInside(sandbox)).filter((rule) => rule.includes('-j DNAT'));
  expect(rules.length === NAMES.length, 'the kernel does not hold the service', { expected: `${NAMES.length} DNAT rules`, seen: rules });
  screen.seen(`${clusterIp}:80 is live: the kernel holds ${rules.length} DNAT rules for it`);
  await client.call('ingress_create', { name: 'web', rules: [{ host: HOST, path: '/', service: 'web' }] }, z.object({ enforced }));
  const who = await ask(ingress, signal);
  screen.seen(`http://${HOST}/ answers on ${sandbox.ingressUrl}, by ${who}`);
  return clusterIp;
}

async function showBalance({ screen, sandbox, ingress, signal }: Stage, { clusterIp }: Published): Promise<void> {
  screen.step(`Send ${REQUESTS} requests from ${PARALLEL} clients each way`);
  const amount = { count: REQUESTS, parallel: PARALLEL };
  showSpread(screen, 'through the ClusterIP', await burstInside(sandbox, `http://${clusterIp}/`, amount));
  showSpread(screen, 'through the ingress', await burst(ingress, amount, signal));
}

function showSpread(screen: Screen, way: string, { answers, failures }: Spread): void {
  screen.bars(answers);
  expect(failures.length === 0, `requests ${way} failed`, { expected: 'no failure', seen: `${failures.length}, the first: ${failures[0]}` });
  const shares = NAMES.map((name) => (answers[name] ?? 0) / REQUESTS);
  const fair = shares.every((share) => share >= FAIR.least && share <= FAIR.most);
  expect(fair, `the balance ${way} is off`, { expected: `each between ${FAIR.least * 100} and ${FAIR.most * 100} %`, seen: answers });
  screen.seen(`${way}: ${REQUESTS} of ${REQUESTS} answered`);
}

async function killOne({ screen, sandbox, client, ingress, signal }: Stage, { clusterIp }: Published): Promise<void> {
  screen.step(`Kill ${VICTIM} under traffic, as in a crash: when has it moved to the others?`);
  const streams = [
    { way: 'ClusterIP', stream: streamInside(sandbox, `http://${clusterIp}/`) },
    { way: 'ingress', stream: streamOutside(ingress) },
  ];
  try {
    await until(() => streams.every(({ stream }) => stream.samples.some(({ who }) => who === VICTIM)), signal, {
      what: 'the streams do not run',
      expected: `answers of ${VICTIM} both ways`,
    });
    const { at } = await killInside(sandbox, VICTIM);
    await until(() => streams.every(({ stream }) => hasSettled(stream, at)), signal, {
      what: 'traffic does not move away',
      expected: `a second of answers by the others alone`,
    });
    for (const { way, stream } of streams) screen.seen(`${way}: ${moveText(stream.samples, at)}`);
  } finally {
    await Promise.all(streams.map(async ({ stream }) => stream.stop()));
  }
  const { healthy } = await client.call('service_endpoints', { name: 'web' }, z.object({ total: z.int(), healthy: z.int() }));
  expect(healthy === NAMES.length - 1, 'the dead workload still counts', { expected: 'two healthy endpoints', seen: `${healthy}` });
  screen.seen('the service knows: two healthy endpoints are left');
}

const SETTLED_MS = 1_000;

/** A second without a failure or an answer by the victim, in which both others answered. */
function hasSettled({ samples }: Stream, killedAt: number): boolean {
  const since = Math.max(killedAt, ...samples.filter(isAffected).map(endOf));
  const after = samples.filter(({ at }) => at > since);
  const last = after.at(-1);
  return last !== undefined && endOf(last) - since >= SETTLED_MS && NAMES.every((name) => name === VICTIM || after.some(({ who }) => who === name));
}

function moveText(samples: readonly Sample[], killedAt: number): string {
  const after = samples.filter((sample) => endOf(sample) >= killedAt);
  const failed = after.filter(({ error }) => error !== undefined);
  if (failed.length === 0) return `moved at once, none of ${after.length} requests failed`;
  const movedMs = Math.max(...failed.map(endOf)) - killedAt;
  return `moved within ${Math.round(movedMs)} ms, ${failed.length} of ${after.length} requests failed`;
}

function isAffected({ who, error }: Sample): boolean {
  return error !== undefined || who === VICTIM;
}

function endOf({ at, tookMs }: Sample): number {
  return at + tookMs;
}

async function deleteAll({ screen, sandbox, client, signal, ingress }: Stage, { clusterIp, workloadIps }: Published): Promise<void> {
  screen.step('Delete everything and look at the kernel');
  const deleted = z.object({ deleted: z.literal(true), enforced });
  await client.call('ingress_delete', { name: 'web' }, deleted);
  await client.call('service_delete', { name: 'web' }, deleted);
  const { failures, durationMs } = await burstInside(sandbox, `http://${clusterIp}/`, { count: REFUSALS, parallel: 1 });
  const refused = failures.filter((failure) => failure === 'ECONNREFUSED').length;
  expect(refused === REFUSALS, 'the ClusterIP is not refused', { expected: `${REFUSALS} times ECONNREFUSED`, seen: failures });
  screen.seen(`${clusterIp} refuses connections, in ${(durationMs / REFUSALS).toFixed(1)} ms each`);
  const afterDelete = await ask(ingress, signal).then((who) => `an answer of ${who}`, String);
  expect(afterDelete.includes('status 404'), 'the ingress still serves the host', { expected: 'status 404', seen: afterDelete });
  screen.seen(`${HOST} is answered with 404`);
  for (const name of NAMES) await client.call('workload_stop', { name }, z.object({ released: z.string(), enforced }));
  const left = (await rulesInside(sandbox)).filter((rule) => [clusterIp, ...workloadIps].some((ip) => mentions(rule, ip)));
  expect(left.length === 0, 'rules are left', { expected: 'none with these addresses', seen: left });
  const interfaces = (await interfacesInside(sandbox)).filter((name) => name.startsWith('clawv'));
  expect(interfaces.length === 0, 'interfaces are left', { expected: 'none of a workload', seen: interfaces });
  screen.seen('the kernel is clean: none of their addresses, none of their interfaces');
}

function mentions(rule: string, ip: string): boolean {
  return rule.split(/[^\d.]+/).includes(ip);
}

const PATIENCE_MS = 10_000;

async function until(holds: () => boolean, signal: AbortSignal, { what, expected }: { what: string; expected: string }): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while (!holds()) {
    if (performance.now() > deadline) throw new DemoFailure(what, { expected, seen: `nothing of it within ${PATIENCE_MS / 1_000} s` });
    await sleep(20, undefined, { signal });
  }
}

function showFailure(screen: Screen, error: unknown): void {
  if (error instanceof DemoFailure) return screen.failed(error.message, [`expected: ${error.expected}`, `seen:     ${error.seen}`]);
  return screen.failed('the demo could not go on', errorText(error, { verbose: true }).trimEnd().split('\n'));
}
