/** Bad input of a simulation: the error names the place in the caller's own notation, and nothing is answered. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { ClawError } from '../../src/errors.ts';
import { openDoor, type TestDoor } from '../managers/door.ts';
import { kubernetes } from './ask.ts';

let door: TestDoor;
before(async () => {
  door = await openDoor();
});
after(() => door.close());

const workloads = [{ name: 'web', labels: {}, ip: '10.200.1.1', ports: [{ name: 'http', port: 80 }] }];

async function refused(params: Record<string, unknown>, path: string, said: RegExp): Promise<void> {
  const error: unknown = await door.call('network.simulate', { workloads, ...params }).then(
    () => assert.fail(`taken: ${JSON.stringify(params)}`),
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof ClawError, String(error));
  assert.deepEqual([error.code, error.path], ['INVALID_ARGUMENT', path], error.message);
  assert.match(error.message, said);
  assert.ok((error.hint ?? '').length > 0, 'an error says what to do next');
}

describe('a native policy', () => {
  const policy = (rest: Record<string, unknown>): Record<string, unknown> => ({ policies: [{ name: 'p', ...rest }] });
  const cases: readonly (readonly [string, Record<string, unknown>, string, RegExp])[] = [
    ['a range with host bits', policy({ ingress: [{}, { from: { cidr: '10.0.0.1/8' } }] }), 'policies[0].ingress[1].from.cidr', /10\.0\.0\.1\/8/],
    ['a range of IPv6', policy({ ingress: [{ from: [{ selector: {} }, { cidr: 'fd00::/8' }] }] }), 'policies[0].ingress[0].from[1].cidr', /fd00::\/8/],
    ['an except outside of its range', policy({ egress: [{ to: { cidr: '10.0.0.0/8', except: ['10.1.0.0/16', '11.0.0.0/16'] } }] }), 'policies[0].egress[0].to.except[1]', /11\.0\.0\.0\/16/],
    ['an except that holds its range', policy({ egress: [{ to: [{ cidr: '10.0.0.0/8', except: ['0.0.0.0/0'] }] }] }), 'policies[0].egress[0].to[0].except[0]', /0\.0\.0\.0\/0/],
    ['an except without a range', policy({ ingress: [{ from: { selector: {}, except: ['10.0.0.0/8'] } }] }), 'policies[0].ingress[0].from.except', /cidr/],
    ['an endPort below its port', policy({ ingress: [{ port: 90, endPort: 80 }] }), 'policies[0].ingress[0].endPort', /80.*90/],
    ['an endPort of a named port', policy({ ingress: [{ ports: [{ port: 1 }, { port: 'http', endPort: 80 }] }] }), 'policies[0].ingress[0].ports[1].endPort', /number/],
    ['a port above the highest', policy({ ingress: [{ port: 65_536 }] }), 'policies[0].ingress[0].port', /65535/],
    ['port and ports at once', policy({ ingress: [{ port: 80, ports: [{ port: 81 }] }] }), 'policies[0].ingress[0].port', /exclude/],
    ['an unknown key of a rule', policy({ ingress: [{ ports: [{ port: 80 }], form: {} }] }), 'policies[0].ingress[0].form', /form/],
    ['an unknown key of a policy', policy({ ingres: [] }), 'policies[0].ingres', /ingres/],
    ['from in an egress rule', policy({ egress: [{ from: { selector: {} } }] }), 'policies[0].egress[0].from', /from/],
    ['a peer of two kinds', policy({ ingress: [{ from: { cidr: '10.0.0.0/8', entity: 'host' } }] }), 'policies[0].ingress[0].from', /list/],
    ['an empty peer', policy({ ingress: [{ from: {} }] }), 'policies[0].ingress[0].from', /leave it out/],
    ['an unknown entity', policy({ ingress: [{ from: { entity: 'world' } }] }), 'policies[0].ingress[0].from.entity', /host/],
    ['the proxy as a destination', policy({ egress: [{ to: { entity: 'ingress' } }] }), 'policies[0].egress[0].to.entity', /destination/],
    ['an operator without values', policy({ selector: { matchExpressions: [{ key: 'app', operator: 'In' }] } }), 'policies[0].selector.matchExpressions[0].values', /at least one/],
    ['a policy without a name', { policies: [{ ingress: [] }] }, 'policies[0].name', /./],
    ['the same policy twice', { policies: [{ name: 'p' }, { name: 'p' }] }, 'policies[1].name', /default\/p/],
  ];
  for (const [what, params, path, said] of cases) test(`with ${what} is refused at ${path}`, () => refused(params, path, said));
});

describe('a Kubernetes policy', () => {
  const policy = (spec: Record<string, unknown>, metadata: Record<string, unknown> = {}): Record<string, unknown> => ({ policies: [kubernetes({ podSelector: {}, ...spec }, metadata)] });
  const peer = (...from: Record<string, unknown>[]): Record<string, unknown> => policy({ ingress: [{ from }] });
  const cases: readonly (readonly [string, Record<string, unknown>, string, RegExp])[] = [
    ['an except that is no range', peer({ podSelector: {} }, { ipBlock: { cidr: '10.0.0.0/8', except: ['10.0.0.0'] } }), 'policies[0].spec.ingress[0].from[1].ipBlock.except[0]', /10\.0\.0\.0/],
    ['an except outside of its range', peer({ podSelector: {} }, { ipBlock: { cidr: '10.0.0.0/8', except: ['11.0.0.0/16'] } }), 'policies[0].spec.ingress[0].from[1].ipBlock.except[0]', /11\.0\.0\.0\/16/],
    ['a range of IPv6', policy({ egress: [{ to: [{ ipBlock: { cidr: '::/0' } }] }] }), 'policies[0].spec.egress[0].to[0].ipBlock.cidr', /IPv6/],
    ['a range and a selector in one peer', peer({ podSelector: {}, ipBlock: { cidr: '10.0.0.0/8' } }), 'policies[0].spec.ingress[0].from[0]', /exclude/],
    ['an empty peer', peer({}), 'policies[0].spec.ingress[0].from[0]', /needs/],
    ['a selector whose only value is null', peer({ podSelector: null }), 'policies[0].spec.ingress[0].from[0]', /needs/],
    ['a label of null, which would select everything when left out', policy({ podSelector: { matchLabels: { app: null } } }), 'policies[0].spec.podSelector.matchLabels.app', /string/],
    ['an endPort below its port', policy({ ingress: [{ ports: [{ port: 90, endPort: 80 }] }] }), 'policies[0].spec.ingress[0].ports[0].endPort', /80.*90/],
    ['an endPort without a port', policy({ ingress: [{ ports: [{ endPort: 80 }] }] }), 'policies[0].spec.ingress[0].ports[0].endPort', /number/],
    ['a protocol in lower case', policy({ ingress: [{ ports: [{ port: 80, protocol: 'tcp' }] }] }), 'policies[0].spec.ingress[0].ports[0].protocol', /TCP/],
    ['a field that is not known', policy({ ingress: [{ from: [{ podSelector: {} }], icmps: [] }] }), 'policies[0].spec.ingress[0].icmps', /./],
    ['an unknown policy type', policy({ policyTypes: ['ingress'] }), 'policies[0].spec.policyTypes[0]', /Ingress/],
    ['an unknown operator', policy({ podSelector: { matchExpressions: [{ key: 'app', operator: 'Gt', values: ['1'] }] } }), 'policies[0].spec.podSelector.matchExpressions[0].operator', /./],
    ['a name that is none', policy({}, { name: 'A' }), 'policies[0].metadata.name', /lower case/],
    ['another kind', { policies: [{ ...kubernetes({}), kind: 'CiliumNetworkPolicy' }] }, 'policies[0].kind', /NetworkPolicy/],
  ];
  for (const [what, params, path, said] of cases) test(`with ${what} is refused at ${path}`, () => refused(params, path, said));
});

describe('a probe', () => {
  const probe = (rest: Record<string, unknown>): Record<string, unknown> => ({ probes: [{ from: 'web', to: 'web', port: 80 }, { from: 'web', to: 'web', port: 80, ...rest }] });
  const cases: readonly (readonly [string, Record<string, unknown>, string, RegExp])[] = [
    ['from an unknown workload', probe({ from: 'shop/web' }), 'probes[1].from', /shop\/web/],
    ['to an unknown workload', probe({ to: 'wep' }), 'probes[1].to', /wep/],
    ['to an address of IPv6', probe({ to: 'fd00::1' }), 'probes[1].to', /fd00::1/],
    ['to port 0', probe({ port: 0 }), 'probes[1].port', /./],
    ['to a port that the destination does not name', probe({ port: 'https' }), 'probes[1].port', /https/],
    ['to a named port of another protocol', probe({ port: 'http', protocol: 'udp' }), 'probes[1].port', /udp/],
    ['of an unknown protocol', probe({ protocol: 'icmp' }), 'probes[1].protocol', /./],
    ['to the ingress proxy', probe({ to: 'entity:ingress' }), 'probes[1].to', /destination/],
  ];
  for (const [what, params, path, said] of cases) test(`${what} is refused at ${path}`, () => refused(params, path, said));
});

test('a manifest is refused at the document that is wrong', async () => {
  const good = 'apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n';
  const bad = 'apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec:\n  podSelector: {}\n  ingress:\n  - from:\n    - ipBlock: {cidr: 10.0.0.0}\n';
  await refused({ manifest: `${good}---\n${bad}` }, 'manifest[1].spec.ingress[0].from[0].ipBlock.cidr', /10\.0\.0\.0/);
  await refused({ manifest: 'a: [' }, 'manifest', /./);
});

test('a policy that stands in the call and in the manifest is refused in the manifest', async () => {
  await refused({ policies: [kubernetes({ podSelector: {} })], manifest: JSON.stringify(kubernetes({ podSelector: {} })) }, 'manifest[0].metadata.name', /default\/p/);
});
