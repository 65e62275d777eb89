/**
 * Nine workloads, a, b and c in each of the namespaces x, y and z, that serve the same ports and try to reach each other all at once; their
 * labels, ports and policies are changed through the agent's commands. It judges nothing.
 */
import { strict as assert } from 'node:assert';
import { writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { start } from '../../src/drivers/exec.ts';
import { until, type TestAgent } from './agent-fixture.ts';
import { CONTROL_PORT, matrixCommand, outcomes, PROTOCOLS, type Protocol, type Target } from './matrix-workload.ts';

export const NAMESPACES = ['x', 'y', 'z'] as const;
export const WORKLOADS = NAMESPACES.flatMap((namespace) => ['a', 'b', 'c'].map((name) => ({ namespace, name })));

type Labels = Readonly<Record<string, string>>;

export interface Port {
  readonly port: number;
  readonly protocol: Protocol;
  readonly name?: string;
}

/** As network.policy.create takes it. */
export interface GivenPolicy {
  readonly namespace: string;
  readonly name: string;
  readonly [field: string]: unknown;
}

export interface MatrixState {
  /** By namespace. */
  readonly namespaces: Readonly<Record<string, Labels>>;
  /** By `namespace/name`. */
  readonly workloads: Readonly<Record<string, { readonly labels: Labels; readonly ports: readonly Port[] }>>;
  readonly policies: readonly GivenPolicy[];
}

/** Someone to reach; `name` is what a server there says. */
export interface Destination {
  readonly name: string;
  readonly ip: string;
}

export interface Cell {
  readonly from: string;
  readonly to: string;
  readonly protocol: Protocol;
  readonly port: number;
}

export interface Matrix {
  /** By `namespace/name`. */
  readonly ips: ReadonlyMap<string, string>;
  /** Brings labels, ports and policies there by commands; resolves when all of it is programmed. */
  become(state: MatrixState): Promise<void>;
  /** One attempt for each cell, all at once; in the same order: `answered`, or what the client was told instead. */
  probe(cells: readonly Cell[]): Promise<string[]>;
  close(): Promise<void>;
}

/** What a policy's refusal looks like to the client. */
export const REFUSED: Readonly<Record<Protocol, string>> = { tcp: 'ECONNREFUSED', udp: 'EHOSTUNREACH', sctp: 'icmp-3-13' };

export interface MatrixOptions {
  /** Each workload serves these over each protocol. */
  readonly served: readonly number[];
  readonly workloads?: readonly { readonly namespace: string; readonly name: string }[];
  /** Can be reached over TCP and UDP, but try nothing themselves. */
  readonly others?: readonly Destination[];
}

/** Starts the workloads, and waits until all of them answer. */
export async function openMatrix(agent: TestAgent, { served, workloads = WORKLOADS, others = [] }: MatrixOptions): Promise<Matrix> {
  // The kernel sends one host only so many ICMP errors per second, and each refusal but that of TCP is one.
  writeFileSync('/proc/sys/net/ipv4/icmp_ratemask', '0');
  const listen = (['tcp', 'udp'] as const).flatMap((protocol) => served.map((port) => `${protocol}:${port}`));
  for (const name of new Set(workloads.map(({ namespace }) => namespace))) await agent.invoke('namespace.create', { name });
  const ips = new Map(others.map(({ name, ip }) => [name, ip]));
  const probers = new Map<string, Prober>();
  // One after the other, so that each gets the same address in every run.
  for (const { namespace, name } of workloads) {
    const key = `${namespace}/${name}`;
    const { ip, netns } = await agent.workload(name, { namespace, command: matrixCommand(key, listen) });
    ips.set(key, ip);
    const dialler = linesOver(ip);
    const raw = rawSctp(netns);
    probers.set(`${key} tcp`, dialler).set(`${key} udp`, dialler).set(`${key} sctp`, raw);
  }
  const probe: Matrix['probe'] = async (cells) => {
    const found = Array.from(cells, () => 'not told');
    const asked = cells.map((cell, index) => ({ ...cell, index, ip: ips.get(cell.to) ?? assert.fail(`${cell.to} has no address`) }));
    const groups = Map.groupBy(asked, ({ from, protocol }) => probers.get(`${from} ${protocol}`) ?? assert.fail(`${from} is no workload of the matrix`));
    await Promise.all(
      [...groups].map(async ([prober, group]) => {
        const answers = await prober.ask(group.map(({ to, ip, protocol, port }) => ({ name: to, ip, protocol, port })));
        for (const [place, { index }] of group.entries()) found[index] = answers[place] ?? 'not told';
      }),
    );
    return found;
  };
  const close = async (): Promise<void> => {
    await Promise.all([...new Set(probers.values())].map((prober) => prober.close()));
  };
  await until('all servers of the matrix answer', async () => {
    const cells = workloads.flatMap(({ namespace, name }) => served.flatMap((port) => PROTOCOLS.map((protocol) => ({ from: `${namespace}/${name}`, to: `${namespace}/${name}`, protocol, port }))));
    assert.deepEqual(new Set(await probe(cells)), new Set(['answered']));
  });
  return { ips, become: changer(agent, workloads), probe, close };
}

interface Prober {
  /** An outcome for each target. One question at a time. */
  ask(targets: readonly Target[]): Promise<readonly string[]>;
  close(): Promise<void>;
}

/** The node's own processes always reach its workloads, so that is how the matrix asks them. */
function linesOver(ip: string): Prober {
  let line: AsyncIterator<string> | undefined;
  let socket: Socket | undefined;
  const open = async (): Promise<AsyncIterator<string>> => {
    socket = await until(`${ip} takes questions`, () => connected(ip));
    line = createInterface({ input: socket })[Symbol.asyncIterator]();
    return line;
  };
  return {
    ask: async (targets) => {
      const answers = line ?? (await open());
      socket?.write(`${JSON.stringify(targets)}\n`);
      return outcomes.parse(JSON.parse(String((await answers.next()).value)));
    },
    close: async () => void socket?.destroy(),
  };
}

function connected(ip: string): Promise<Socket> {
  const socket = connect(CONTROL_PORT, ip);
  return new Promise((resolve, reject) => socket.once('connect', () => resolve(socket)).once('error', reject));
}

const SCTP_SECONDS = 4;

/** From the workload's network, but not by its process, which may open no raw socket. It also answers what others send there. */
function rawSctp(netns: string): Prober {
  const child = start(['nsenter', `--net=/run/netns/${netns}`, 'perl', `${import.meta.dirname}/sctp-prober.pl`], { stdio: ['pipe', 'pipe', 'inherit'] });
  const { stdin, stdout } = child;
  if (stdin === null || stdout === null) throw new Error('the SCTP prober has no pipes');
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  const lines = createInterface({ input: stdout })[Symbol.asyncIterator]();
  const ready = lines.next();
  return {
    ask: async (targets) => {
      assert.equal((await ready).value, 'ready');
      stdin.write(`1 ${SCTP_SECONDS} ${targets.map(({ ip, port }) => `${ip}:${port}`).join(' ')}\n`);
      const [, ...answers] = String((await lines.next()).value).split(' ');
      return answers;
    },
    close: async () => {
      stdin.end();
      await ended;
    },
  };
}

/** Sends only what differs from the state before, all of it at once: the order of commands must not matter. */
function changer(agent: TestAgent, workloads: NonNullable<MatrixOptions['workloads']>): Matrix['become'] {
  let now: MatrixState = { namespaces: {}, workloads: {}, policies: [] };
  const enforced = async (command: string, params: object): Promise<void> => {
    const answer = await agent.invoke(command, params);
    assert.equal(answer.enforced, true, `${command} ${JSON.stringify(params)} is answered with ${JSON.stringify(answer)}`);
  };
  return async (state) => {
    const before = now;
    now = state;
    const names = new Set([...Object.keys(before.namespaces), ...Object.keys(state.namespaces)]);
    const namespaces = [...names].filter((name) => differ(before.namespaces[name], state.namespaces[name])).map((name) => enforced('namespace.update', { name, labels: state.namespaces[name] ?? null }));
    const relabelled = workloads.flatMap(({ namespace, name }) => {
      const key = `${namespace}/${name}`;
      const { labels = null, ports = null } = state.workloads[key] ?? {};
      return differ(before.workloads[key], state.workloads[key]) ? [enforced('workload.update', { namespace, name, labels, ports })] : [];
    });
    const [old, wanted] = [before.policies, state.policies].map((policies) => new Map(policies.map((policy) => [`${policy.namespace}/${policy.name}`, policy])));
    const policies = [...(wanted ?? [])].flatMap(([key, policy]) => {
      if (!differ(old?.get(key), policy)) return [];
      return [old?.has(key) ? enforced('network.policy.update', { ...NOTHING_SAID, ...policy }) : enforced('network.policy.create', policy)];
    });
    const gone = [...(old ?? [])].filter(([key]) => wanted?.has(key) !== true).map(([, { namespace, name }]) => enforced('network.policy.delete', { namespace, name }));
    await Promise.all([...namespaces, ...relabelled, ...policies, ...gone]);
  };
}

/** In an update null takes away what the policy said before. */
const NOTHING_SAID = { selector: null, ingress: null, egress: null, mode: null };

function differ(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) !== JSON.stringify(b);
}
