/** Who is an endpoint of a service, and who is not. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { endpointLookup } from '../../src/compile/endpoints.ts';
import { matches } from '../../src/model/name.ts';
import { aService, aWorkload, desired, observed } from './state.ts';

function endpoints(service: ReturnType<typeof aService>, workloads: readonly ReturnType<typeof aWorkload>[], states = {}) {
  return endpointLookup(desired({ services: [service], workloads }), observed(workloads, states))(service);
}

test('a running workload is healthy, a restarting or starting one is listed as unhealthy, an ended or stopping one is gone', () => {
  const names = ['run', 'rest', 'start', 'exit', 'fail', 'stop'];
  const workloads = names.map((name, index) => aWorkload({ name, id: `0000000${index}`, ip: `10.200.1.${index + 2}`, stopping: name === 'stop' }));
  const seen = endpoints(aService({ selector: { app: 'web' } }), workloads, {
    '00000001': 'restarting',
    '00000002': 'starting',
    '00000003': 'exited',
    '00000004': 'failed',
  });
  assert.deepEqual(
    seen.map(({ ip, healthy, containerId, node }) => ({ ip, healthy, containerId, node })),
    [
      { ip: '10.200.1.3', healthy: false, containerId: '00000001', node: 'node-a' },
      { ip: '10.200.1.2', healthy: true, containerId: '00000000', node: 'node-a' },
      { ip: '10.200.1.4', healthy: false, containerId: '00000002', node: 'node-a' },
    ],
  );
});

test('with a health check an endpoint is healthy once its first TCP port has passed; one without a TCP port is while it runs', () => {
  const workloads = ['a', 'b', 'c'].map((name, index) => aWorkload({ name, id: `0000000${index}`, ip: `10.200.1.${index + 2}`, ports: name === 'c' ? [{ name: 'dns', port: 53, protocol: 'udp' }] : [] }));
  const ports = [
    { name: 'dns', port: 53, protocol: 'udp', targetPort: 5300 },
    { name: 'web', port: 80, protocol: 'tcp', targetPort: 8080 },
    { name: 'admin', port: 81, protocol: 'tcp', targetPort: 8081 },
  ];
  const healthyOf = (service: ReturnType<typeof aService>, health: readonly (readonly [string, boolean])[], states = {}): boolean[] =>
    endpointLookup(desired({ services: [service], workloads }), { ...observed(workloads, states), health: new Map([['services/default/web', new Map(health)]]) })(service).map(({ healthy }) => healthy);
  const web = aService({ selector: { app: 'web' }, manyPorts: true, ports, healthCheck: { type: 'tcp' } });
  const key = (ip: string, port: number): string => `${ip}:${port}`;
  assert.deepEqual(healthyOf(web, []), [false, false, false]);
  assert.deepEqual(healthyOf(web, [[key('10.200.1.2', 8080), true], [key('10.200.1.3', 8081), true], [key('10.200.1.4', 8080), false]]), [true, false, false]);
  assert.deepEqual(healthyOf(web, [[key('10.200.1.2', 8080), true]], { '00000000': 'restarting' }), [false, false, false]);
  const named = aService({ selector: { app: 'web' }, manyPorts: true, ports: [{ name: 'dns', port: 53, protocol: 'udp', targetPort: 'dns' }, { name: 'web', port: 80, protocol: 'tcp', targetPort: 'none' }], healthCheck: { type: 'tcp' } });
  assert.deepEqual(healthyOf(named, []), [true]);
  const given = aService({ endpoints: [{ ip: '192.0.2.7' }, { ip: '192.0.2.8' }], healthCheck: { type: 'tcp' } });
  assert.deepEqual(healthyOf(given, [[key('192.0.2.8', 80), true]]), [false, true]);
});

test('a workload of another namespace, with another label, or not observed at all is no endpoint', () => {
  const workloads = [aWorkload({ name: 'a', namespace: 'other' }), aWorkload({ name: 'b', id: '0000000b', labels: { app: 'api' } })];
  assert.deepEqual(endpoints(aService({ selector: { app: 'web' } }), workloads), []);
  const unseen = aWorkload({});
  const service = aService({ selector: { app: 'web' } });
  assert.deepEqual(endpointLookup(desired({ workloads: [unseen] }), observed([]))(service), []);
});

test('a service with neither selector nor endpoints, or with a selector without labels, has none', () => {
  assert.deepEqual(endpoints(aService({ selector: {} }), [aWorkload({})]), []);
  assert.deepEqual(endpoints(aService({}), [aWorkload({})]), []);
});

test('a named target port is resolved by each workload for itself, by name and protocol', () => {
  const service = aService({ selector: { app: 'web' }, ports: [{ port: 80, protocol: 'tcp', targetPort: 'http' }] });
  const workloads = [
    aWorkload({ name: 'a', id: '0000000a', ip: '10.200.1.2', ports: [{ name: 'http', port: 8080 }] }),
    aWorkload({ name: 'b', id: '0000000b', ip: '10.200.1.3', ports: [{ name: 'http', port: 9090 }] }),
    aWorkload({ name: 'c', id: '0000000c', ip: '10.200.1.4', ports: [{ name: 'http', port: 9090, protocol: 'udp' }] }),
    aWorkload({ name: 'd', id: '0000000d', ip: '10.200.1.5' }),
  ];
  assert.deepEqual(
    endpoints(service, workloads).map(({ ip, ports }) => [ip, ports[0]?.port]),
    [
      ['10.200.1.2', 8080],
      ['10.200.1.3', 9090],
    ],
  );
});

test('explicit endpoints have their own port, else the numeric target, else the service port', () => {
  const at = (fields: Record<string, unknown>) => endpoints(aService({ endpoints: [{ ip: '192.0.2.1' }, { ip: '192.0.2.2', port: 99 }], ...fields }), []);
  assert.deepEqual(at({}).map(({ ports }) => ports[0]?.port), [80, 99]);
  assert.deepEqual(at({ ports: [{ port: 80, protocol: 'tcp', targetPort: 8080 }] }).map(({ ports }) => ports[0]?.port), [8080, 99]);
  assert.deepEqual(at({ ports: [{ port: 80, protocol: 'tcp', targetPort: 'http' }] }).map(({ ip }) => ip), ['192.0.2.2']);
  assert.deepEqual(at({}).map(({ containerId, node, healthy }) => ({ containerId, node, healthy })), [
    { containerId: null, node: null, healthy: true },
    { containerId: null, node: null, healthy: true },
  ]);
});

test('the label index finds exactly what trying every workload finds', () => {
  const someLabels = fc.dictionary(fc.constantFrom('app', 'tier', 'zone'), fc.constantFrom('a', 'b'), { maxKeys: 3 });
  fc.assert(
    fc.property(someLabels, fc.array(someLabels, { maxLength: 20 }), (selector, labelSets) => {
      fc.pre(Object.keys(selector).length > 0);
      const workloads = labelSets.map((labels, index) =>
        aWorkload({ name: `w${index}`, labels, id: index.toString(16).padStart(8, '0'), ip: `10.200.1.${index + 2}` }),
      );
      const found = endpoints(aService({ selector }), workloads).map(({ ip }) => ip);
      assert.deepEqual(new Set(found), new Set(workloads.filter(({ labels }) => matches(selector, labels)).map(({ ip }) => ip)));
    }),
  );
});
