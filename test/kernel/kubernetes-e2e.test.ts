/** The situations of Kubernetes' own tests of network policies, each through the agent's commands and with packets between nine workloads. */
import { strict as assert } from 'node:assert';
import { after, before, describe, test } from 'node:test';
import { closeEverything, openTestAgent } from './agent-fixture.ts';
import { EGRESS, BEYOND } from './kubernetes-situations-egress.ts';
import { overOther, TCP, type Situation, type Step } from './kubernetes-situations.ts';
import { PROTOCOLS } from './matrix-workload.ts';
import { NAMESPACES, openMatrix, REFUSED, WORKLOADS, type Cell, type Matrix } from './matrix.ts';
import { enterNamespace } from './namespace.ts';

const PORTS = [80, 81, 82];
const KEYS = WORKLOADS.map(({ namespace, name }) => `${namespace}/${name}`);
const ports = PORTS.flatMap((port) => PROTOCOLS.map((protocol) => ({ name: `serve-${port}-${protocol}`, port, protocol })));
let matrix: Matrix;

before(async () => {
  await enterNamespace();
  matrix = await openMatrix(await openTestAgent(), { served: PORTS });
});

after(async () => {
  await matrix.close();
  await closeEverything();
});

describe('NetworkPolicy between server and client', () => inTurn([...TCP, ...EGRESS]));
describe('NetworkPolicy between server and client using UDP', () => inTurn(overOther('udp')));
describe('NetworkPolicy between server and client using SCTP', () => inTurn(overOther('sctp')));
describe('beyond those', () => inTurn(BEYOND));

test('there are 48 of them', () => assert.equal([TCP, EGRESS, overOther('udp'), overOther('sctp')].flat().length, 48));

function inTurn(situations: readonly Situation[]): void {
  for (const { name, steps } of situations) {
    test(name, async () => {
      for (const step of steps) await check(step);
    });
  }
}

async function check({ policies, labels = {}, expect }: Step): Promise<void> {
  await matrix.become({
    namespaces: Object.fromEntries(NAMESPACES.map((name) => [name, labels[name] ?? {}])),
    workloads: Object.fromEntries(WORKLOADS.map(({ namespace, name }) => [`${namespace}/${name}`, { labels: { pod: name, ...labels[`${namespace}/${name}`] }, ports }])),
    policies: policies.map((policy) => withAddresses(policy)),
  });
  const wanted = Object.entries(expect).flatMap(([what, lines]) => cellsOf(what).map((cell) => ({ cell, outcome: allowed(cell, lines) ? 'answered' : REFUSED[cell.protocol] })));
  const found = await matrix.probe(wanted.map(({ cell }) => cell));
  const text = ({ from, to, protocol, port }: Cell, outcome: string | undefined): string => `${from} -> ${to} ${protocol}/${port}: ${outcome}`;
  const differing = wanted.flatMap(({ cell, outcome }, index) => (found[index] === outcome ? [] : [[text(cell, found[index]), text(cell, outcome)] as const]));
  assert.deepEqual(differing.map(([is]) => is), differing.map(([, should]) => should));
}

function cellsOf(what: string): Cell[] {
  const protocol = PROTOCOLS.find((each) => what.startsWith(`${each}/`)) ?? assert.fail(what);
  const port = Number(what.slice(protocol.length + 1));
  return KEYS.flatMap((from) => KEYS.map((to) => ({ from, to, protocol, port })));
}

/** A workload always reaches itself. */
function allowed({ from, to }: Cell, lines: readonly string[]): boolean {
  const last = lines.findLast((line) => {
    const [, source = '', , destination = ''] = line.split(' ');
    return means(source, from) && means(destination, to);
  });
  return from === to || last === undefined || last.startsWith('allow ');
}

function means(pattern: string, key: string): boolean {
  return pattern === '*' || pattern === key || (pattern.endsWith('/*') && key.startsWith(pattern.slice(0, -1)));
}

function withAddresses<Policy extends object>(policy: Policy): Policy {
  const text = JSON.stringify(policy).replaceAll(/\{(\w\/\w)\}/g, (_, key: string) => matrix.ips.get(key) ?? assert.fail(`${key} has no address`));
  return { ...policy, ...JSON.parse(text) };
}
