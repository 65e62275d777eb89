/** The proxy's routing table, UDP flows to end, and range collisions. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { endpointLookup } from '../../src/compile/endpoints.ts';
import { findOverlap } from '../../src/compile/range-overlap.ts';
import { compileRoutes } from '../../src/compile/routes.ts';
import { staleUdpFlows, udpFlows } from '../../src/compile/udp-flows.ts';
import { cidr } from '../../src/model/address.ts';
import { ranges } from '../../src/model/node.ts';
import type { Policy } from '../../src/model/policy.ts';
import { aPolicy, aService, aWorkload, desired, observed } from './state.ts';

const rule = { host: 'www.example.com', path: '/', service: 'web' };

test('a rule leads to the healthy endpoints of the first TCP port', () => {
  const workloads = [aWorkload({ name: 'a' }), aWorkload({ name: 'b', id: '0000000b', ip: '10.200.1.3' })];
  const ports = [
    { name: 'dns', port: 53, protocol: 'udp' },
    { name: 'http', port: 80, protocol: 'tcp', targetPort: 8080 },
    { name: 'admin', port: 81, protocol: 'tcp' },
  ];
  const state = desired({ services: [aService({ selector: { app: 'web' }, ports, manyPorts: true })], workloads, ingresses: [{ rules: [rule] }] });
  assert.deepEqual(compileRoutes(state, endpointLookup(state, observed(workloads, { '0000000b': 'restarting' }))), [
    { host: 'www.example.com', path: '/', ingress: 'default/in', service: 'default/web', targets: [{ ip: '10.200.1.2', port: 8080 }] },
  ]);
});

test('a rule without its service, or with a UDP one, leads nowhere; a tls ingress is not served in plain', () => {
  const udp = aService({ name: 'udp', ports: [{ port: 53, protocol: 'udp' }], endpoints: [{ ip: '192.0.2.1' }] });
  const state = desired({
    services: [udp],
    ingresses: [
      { name: 'a', rules: [rule, { ...rule, path: '/udp', service: 'udp' }] },
      { name: 'b', tls: true, rules: [{ ...rule, host: 'tls.example.com' }] },
    ],
  });
  assert.deepEqual(
    compileRoutes(state, endpointLookup(state, observed([]))).map(({ path, targets }) => [path, targets.length]),
    [
      ['/', 0],
      ['/udp', 0],
    ],
  );
});

test('what policies do not admit the proxy to is no target; where nothing is left, the route is refused', () => {
  const workloads = [aWorkload({ id: '0000000a' }), aWorkload({ name: 'v', id: '0000000b', ip: '10.200.1.3', labels: { app: 'web', closed: 'yes' } })];
  const services = [aService({ selector: { app: 'web' } }), aService({ name: 'fixed', endpoints: [{ ip: '192.0.2.1' }], clusterIp: '10.201.0.2' })];
  const ingresses = [{ rules: [rule, { ...rule, path: '/fixed', service: 'fixed' }] }];
  const routesWith = (policies: readonly Policy[]) => {
    const state = desired({ services, workloads, ingresses, policies });
    return compileRoutes(state, endpointLookup(state, observed(workloads))).map(({ path, targets, refused }) => [path, targets.map(({ ip }) => ip).join(' '), refused]);
  };
  const closed = aPolicy({ selector: { closed: 'yes' }, ingress: [] });
  assert.deepEqual(routesWith([closed]), [['/', '10.200.1.2', undefined], ['/fixed', '192.0.2.1', undefined]]);
  const all = aPolicy({ name: 'all', ingress: [] });
  assert.deepEqual(routesWith([all])[0], ['/', '', true]);
  assert.deepEqual(routesWith([all, aPolicy({ name: 'in', ingress: [{ from: { entity: 'ingress' } }] })])[0], ['/', '10.200.1.3 10.200.1.2', undefined]);
});

test('of two ingresses with the same host and path the older one answers, whatever their order', () => {
  const newer = { name: 'a', createdAt: '2026-02-02T00:00:00.000Z', rules: [rule] };
  const older = { name: 'b', createdAt: '2026-01-01T00:00:00.000Z', rules: [rule] };
  for (const ingresses of [[newer, older], [older, newer]]) {
    const state = desired({ ingresses });
    assert.deepEqual(compileRoutes(state, endpointLookup(state, observed([]))).map(({ ingress }) => ingress), ['default/b']);
  }
});

test('of two ingresses of the same moment the one that comes first by name answers, whatever their order', () => {
  for (const names of [['a', 'b'], ['b', 'a']]) {
    const state = desired({ ingresses: names.map((name) => ({ name, rules: [rule] })) });
    assert.deepEqual(compileRoutes(state, endpointLookup(state, observed([]))).map(({ ingress }) => ingress), ['default/a']);
  }
});

test('UDP flows whose endpoint went, or turned unhealthy, are stale; TCP is not among them', () => {
  const workloads = [aWorkload({ name: 'a' }), aWorkload({ name: 'b', id: '0000000b', ip: '10.200.1.3' })];
  const services = [
    aService({ name: 'dns', selector: { app: 'web' }, ports: [{ port: 53, protocol: 'udp' }] }),
    aService({ name: 'web', selector: { app: 'web' }, clusterIp: '10.201.0.2' }),
  ];
  const state = desired({ services, workloads });
  const before = udpFlows(services, endpointLookup(state, observed(workloads)));
  const after = udpFlows(services, endpointLookup(state, observed(workloads, { '0000000b': 'restarting' })));
  assert.deepEqual(staleUdpFlows(before, after), [{ type: 'udp-endpoint', clusterIp: '10.201.0.1', endpointIp: '10.200.1.3' }]);
  assert.deepEqual(staleUdpFlows(before, before), []);
  assert.equal(staleUdpFlows(before, udpFlows([], () => [])).length, 2);
});

test('mixed services: only endpoints that serve a UDP port are UDP flows', () => {
  const service = aService({
    selector: { app: 'web' },
    manyPorts: true,
    ports: [
      { name: 'a', port: 53, protocol: 'udp', targetPort: 'dns' },
      { name: 'b', port: 80, protocol: 'tcp' },
    ],
  });
  const workloads = [aWorkload({ name: 'a' })];
  assert.equal(udpFlows([service], endpointLookup(desired({ services: [service], workloads }), observed(workloads))).size, 0);
});

test('a range that collides is named with its culprit; a default route collides with nothing', () => {
  const ours = ranges.parse({});
  const foreign = (range: string) => [{ range: cidr.parse(range), device: 'tun0', kind: 'route' as const }];
  assert.equal(findOverlap(ours, foreign('0.0.0.0/0')), undefined);
  assert.equal(findOverlap(ours, foreign('10.202.0.0/16')), undefined);
  assert.deepEqual(findOverlap(ours, foreign('10.201.128.0/17')), { name: 'clusterIp', range: '10.201.0.0/16', culprit: 'route 10.201.128.0/17 of tun0' });
  assert.equal(findOverlap(ours, foreign('10.0.0.0/8'))?.name, 'clusterIp');
  assert.equal(findOverlap(ours, [{ range: cidr.parse('10.100.7.0/24'), device: undefined, kind: 'route' }])?.culprit, 'route 10.100.7.0/24 of no device');
  assert.match(findOverlap(ranges.parse({ workload: '10.201.0.0/16' }), [])?.culprit ?? '', /our own range workload/);
});
