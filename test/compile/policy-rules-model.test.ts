/** The rules that policies become, read by a small iptables of the test, against the model: every packet gets the verdict that it should. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { compileKernel } from '../../src/compile/kernel.ts';
import type { IpsetState, Rules } from '../../src/compile/kernel-state.ts';
import { cidr, contains, ipv4, type Ipv4 } from '../../src/model/address.ts';
import { nativePolicy } from '../../src/model/policy-form.ts';
import { policyModel } from '../../src/policy/evaluate.ts';
import { aPolicy, aWorkload, desired, node } from './state.ts';

interface Packet {
  readonly in: string;
  readonly out: string;
  readonly src: Ipv4;
  readonly dst: Ipv4;
  readonly protocol: 'tcp' | 'udp' | 'sctp';
  readonly port: number;
}

const workloads = [
  aWorkload({ name: 'a', id: '0000000a', ip: '10.200.1.2', labels: { app: 'a' }, ports: [{ name: 'http', port: 8001 }] }),
  aWorkload({ name: 'b', id: '1000000b', ip: '10.200.1.3', labels: { app: 'b' }, ports: [{ name: 'http', port: 8002 }] }),
  aWorkload({ name: 'c', id: '2000000c', ip: '10.200.1.4', labels: {}, namespace: 'shop', ports: [{ name: 'http', port: 8003, protocol: 'udp' }] }),
];

const peer = fc.oneof(
  fc.constantFrom({ selector: { app: 'a' } }, { selector: { app: 'b' } }, { namespaceSelector: {} }, { entity: 'host' as const }, { cidr: '10.200.1.0/29', except: ['10.200.1.3/32'] }, { cidr: '0.0.0.0/0' }, { cidr: '0.0.0.0/0', except: ['10.200.1.2/32'] }),
);
const protocol = fc.constantFrom('tcp' as const, 'udp' as const, 'sctp' as const);
const entry = fc.oneof(
  { weight: 6, arbitrary: fc.record({ port: fc.integer({ min: 8000, max: 8040 }), protocol }) },
  fc.record({ port: fc.constant('http'), protocol: fc.constantFrom('tcp' as const, 'udp' as const) }),
  fc.record({ protocol }),
  fc.record({ port: fc.integer({ min: 8000, max: 8010 }), endPort: fc.integer({ min: 8010, max: 8040 }), protocol }),
);
const rules = (side: 'from' | 'to') =>
  fc.array(
    fc.tuple(fc.array(entry, { minLength: 1, maxLength: 6 }), fc.option(fc.array(peer, { minLength: 1, maxLength: 2 }), { nil: undefined })).map(([ports, peers]) => ({ ports, ...(peers === undefined ? {} : { [side]: peers }) })),
    { maxLength: 14, size: 'max' },
  );
const policies = fc.array(fc.record({ namespace: fc.constantFrom('default', 'shop'), mode: fc.constantFrom('enforce', 'enforce', 'enforce', 'audit'), ingress: rules('from'), egress: rules('to') }, { requiredKeys: ['namespace', 'mode'] }), { maxLength: 4 });
const ends = fc.uniqueArray(fc.constantFrom(0, 1, 2), { minLength: 2, maxLength: 2 });
const probes = fc.array(fc.record({ ends, protocol, port: fc.integer({ min: 7999, max: 8041 }) }), { minLength: 30, maxLength: 30 });

test('the rules and the model agree, also where many ports make branches', () => {
  let branches = 0;
  fc.assert(
    fc.property(policies, probes, (forms, asked) => {
      const stored = forms.map((form, index) => {
        const { namespace, name, mode = 'enforce', ...rest } = nativePolicy.parse({ name: `p${index}`, ...form });
        return aPolicy({ namespace, name, mode, ...rest });
      });
      const { iptables, ipsets } = compileKernel(node, desired({ workloads, policies: stored }), () => []);
      const model = policyModel({ policies: stored, namespaces: new Map() });
      branches += [...iptables.filter.chains.keys()].filter((name) => /^CLAW-P[A-Z]+B-/.test(name)).length;
      const kernel = { chains: iptables.filter.chains, sets: new Map(ipsets.map((set) => [set.name, set])) };
      for (const { ends: [one = 0, two = 0], protocol: spoken, port } of asked) {
        const [from, to] = [workloads[one], workloads[two]];
        assert.ok(from !== undefined && to !== undefined);
        const judged = model.judge({ from: { kind: 'workload', workload: from }, to: { kind: 'workload', workload: to }, protocol: spoken, port });
        const packet: Packet = { in: `clawv${from.id}`, out: `clawv${to.id}`, src: from.ip, dst: to.ip, protocol: spoken, port };
        const passes = walk(kernel, 'CLAW-EGRESS', packet) === 'RETURN' && walk(kernel, 'CLAW-INGRESS', packet) === 'RETURN';
        assert.equal(passes ? 'allow' : 'deny', judged.verdict, JSON.stringify({ packet, forms }));
      }
    }),
    { numRuns: 150 },
  );
  assert.ok(branches > 20, `${branches} branches were made`);
});

interface Kernel {
  readonly chains: ReadonlyMap<string, Rules>;
  readonly sets: ReadonlyMap<string, IpsetState>;
}

/** How the chain is left: by RETURN or its end, or by a target that decides. A goto comes back to where the chain was called. */
function walk(kernel: Kernel, chain: string, packet: Packet): string {
  for (const rule of kernel.chains.get(chain) ?? assert.fail(chain)) {
    const { matches, jump, target } = read(kernel, rule, packet);
    if (!matches || target === 'NFLOG') continue;
    if (!target.startsWith('CLAW-')) return target;
    const left = walk(kernel, target, packet);
    if (jump === '-g' || left !== 'RETURN') return left;
  }
  return 'RETURN';
}

/** Refuses what it does not know. */
function read(kernel: Kernel, rule: string, packet: Packet): { matches: boolean; jump: string; target: string } {
  const words = rule.split(' ');
  let matches = true;
  for (let at = 0; at < words.length; at += 1) {
    const [word = '', value = ''] = [words[at], words[at + 1]];
    if (word === '-j' || word === '-g') return { matches, jump: word, target: value };
    if (word === '-m') at += value === 'limit' ? 5 : 1;
    else if (word === '--match-set') {
      matches &&= inSet(kernel.sets.get(value) ?? assert.fail(value), words[at + 2] ?? '', packet);
      at += 2;
    } else {
      const holds = MATCHES[word] ?? assert.fail(`${word} in ${rule}`);
      matches &&= holds(value, packet);
      at += 1;
    }
  }
  return assert.fail(rule);
}

const MATCHES: Readonly<Record<string, (value: string, packet: Packet) => boolean>> = {
  '-i': (value, packet) => isInterface(value, packet.in),
  '-o': (value, packet) => isInterface(value, packet.out),
  '-p': (value, { protocol: spoken }) => value === spoken,
  '-s': (value, { src }) => contains(cidr.parse(value), src),
  '-d': (value, { dst }) => contains(cidr.parse(value), dst),
  '--dport': (value, { port }) => inRange(value, port),
  '--dports': (value, { port }) => value.split(',').some((range) => inRange(range, port)),
};

function isInterface(pattern: string, name: string): boolean {
  return pattern.endsWith('+') ? name.startsWith(pattern.slice(0, -1)) : name === pattern;
}

function inRange(range: string, port: number): boolean {
  const [first = '', last = first] = range.split(':');
  return port >= Number(first) && port <= Number(last);
}

function inSet({ create, members }: IpsetState, side: string, { src, dst, protocol: spoken, port }: Packet): boolean {
  const ip = side.startsWith('src') ? src : dst;
  if (create.startsWith('hash:ip,port ')) return members.has(`${ip},${spoken}:${port}`);
  if (create.startsWith('hash:ip ')) return members.has(ip);
  assert.ok(create.startsWith('hash:net '), create);
  return [...members].some((range) => (range.includes('/') ? contains(cidr.parse(range), ip) : ipv4.parse(range) === ip));
}
