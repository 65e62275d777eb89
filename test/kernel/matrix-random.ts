/** Random labels, ports and policies for the workloads of a matrix, made so that they often meet; owns no expectation. */
import * as fc from 'fast-check';
import { NAMESPACES, WORKLOADS, type GivenPolicy, type MatrixState } from './matrix.ts';
import { PROTOCOLS } from './matrix-workload.ts';

const key = fc.constantFrom('app', 'tier');
const value = fc.constantFrom('red', 'blue');
const protocol = fc.constantFrom(...PROTOCOLS);
const portName = fc.constantFrom('web', 'dns');

/** `served` are the ports that everyone serves, `around` the addresses that ranges are made of. */
export function randomStates(served: readonly number[], around: readonly string[]): fc.Arbitrary<MatrixState> {
  const labels = fc.dictionary(key, value, { maxKeys: 2 });
  const ports = fc.uniqueArray(fc.record({ name: portName, port: fc.constantFrom(...served), protocol }), { comparator: (a, b) => a.name === b.name || (a.port === b.port && a.protocol === b.protocol), maxLength: 2 });
  return fc
    .record({
      namespaces: fc.tuple(...NAMESPACES.map(() => labels)),
      workloads: fc.tuple(...WORKLOADS.map(() => fc.record({ labels, ports }))),
      policies: fc.array(policy(served, around), { minLength: 1, maxLength: 7 }),
    })
    .map(({ namespaces, workloads, policies }) => ({
      namespaces: Object.fromEntries(NAMESPACES.map((name, index) => [name, namespaces[index] ?? {}])),
      workloads: Object.fromEntries(WORKLOADS.map(({ namespace, name }, index) => [`${namespace}/${name}`, workloads[index] ?? { labels: {}, ports: [] }])),
      policies: policies.map((given, index) => ({ ...given, name: `p${index}` })),
    }));
}

function policy(served: readonly number[], around: readonly string[]): fc.Arbitrary<Omit<GivenPolicy, 'name'> & { readonly namespace: string }> {
  const rules = (side: 'from' | 'to') => fc.array(rule({ side, served, around }), { maxLength: 3 });
  return fc.record(
    {
      namespace: fc.constantFrom(...NAMESPACES),
      selector: selector(),
      ingress: rules('from'),
      egress: rules('to'),
      mode: fc.constantFrom('enforce', 'enforce', 'enforce', 'audit'),
    },
    { requiredKeys: ['namespace'] },
  );
}

interface RuleParts {
  readonly side: 'from' | 'to';
  readonly served: readonly number[];
  readonly around: readonly string[];
}

function rule({ side, served, around }: RuleParts) {
  const number = fc.constantFrom(...served, 65_535);
  const numbered = fc.tuple(number, fc.option(number, { freq: 2, nil: undefined })).map(([port, end]) => (end === undefined ? { port } : { port: Math.min(port, end), endPort: Math.max(port, end) }));
  const port = fc.oneof(
    fc.tuple(numbered, protocol).map(([numbers, of]) => ({ ...numbers, protocol: of })),
    fc.record({ port: portName, protocol }),
    fc.record({ protocol }),
  );
  const peer = fc.oneof(
    { weight: 3, arbitrary: fc.record({ selector: selector() }) },
    { weight: 2, arbitrary: fc.record({ namespaceSelector: namespaceSelector() }) },
    { weight: 2, arbitrary: fc.record({ selector: selector(), namespaceSelector: namespaceSelector() }) },
    { weight: 3, arbitrary: block(around) },
  );
  const peers = fc.option(fc.array(peer, { minLength: 1, maxLength: 3 }), { freq: 4, nil: undefined });
  const ports = fc.option(fc.array(port, { minLength: 1, maxLength: 3 }), { freq: 2, nil: undefined });
  return fc.tuple(peers, ports).map(([who, what]) => ({ ...(who === undefined ? {} : { [side]: who }), ...(what === undefined ? {} : { ports: what }) }));
}

function selector() {
  const compared = fc.record({ key, operator: fc.constantFrom('In', 'NotIn'), values: fc.uniqueArray(value, { minLength: 1, maxLength: 2 }) });
  const expression = fc.oneof(compared, fc.record({ key, operator: fc.constantFrom('Exists', 'DoesNotExist') }));
  const filled = fc.record({ matchLabels: fc.dictionary(key, value, { maxKeys: 1 }), matchExpressions: fc.array(expression, { maxLength: 1 }) }, { requiredKeys: [] });
  return fc.oneof({ weight: 1, arbitrary: fc.constant({}) }, { weight: 3, arbitrary: filled });
}

function namespaceSelector() {
  return fc.oneof(selector(), fc.constantFrom(...NAMESPACES).map((name) => ({ matchLabels: { 'kubernetes.io/metadata.name': name } })));
}

const PREFIXES = [0, 1, 8, 24, 27, 28, 29, 30, 31, 32] as const;

/** A range around one of the addresses, less ranges in it. */
function block(around: readonly string[]) {
  const range = fc.tuple(fc.constantFrom(...around), fc.constantFrom(...PREFIXES));
  return fc.tuple(range, fc.array(range, { maxLength: 3 })).map(([[base, prefix], holes]) => {
    const cidr = rangeOf(base, prefix);
    const except = holes.filter(([hole, bits]) => bits >= prefix && rangeOf(hole, prefix) === cidr).map(([hole, bits]) => rangeOf(hole, bits));
    return { cidr, ...(except.length === 0 ? {} : { except }) };
  });
}

function rangeOf(address: string, prefix: number): string {
  const kept = address.split('.').map((octet, index) => Number(octet) & (0xff00 >> Math.min(8, Math.max(0, prefix - 8 * index))) & 0xff);
  return `${kept.join('.')}/${prefix}`;
}
