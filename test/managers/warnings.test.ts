/** What a node tells people about itself in words, and when it has nothing to tell. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nodeWarnings, type NodeFacts } from '../../src/managers/warnings.ts';

const pool = { used: 3, free: 250, quarantined: 0 };
const workloads = { starting: 0, running: 0, restarting: 0, exited: 0, failed: 0, stopping: 0 };
const figures = { services: 1, ingresses: 0, namespaces: 1, endpoints: { healthy: 1, unhealthy: 0 }, workloads, pools: { clusterIps: pool, workloadIps: pool } };
const well: NodeFacts = {
  health: {
    kernel: { inSync: true, backend: 'nft', revision: 7 },
    drift: { repairs: 5 },
    ingress: { port: 8443, running: true },
    metrics: { url: 'http://127.0.0.1:10201/metrics' },
    audit: { works: true, starting: false, denied: 0, audited: 0, dropped: 0 },
    storeDriver: 'sqlite',
  },
  figures,
  conntrack: { entries: 89, maximum: 100 },
  deserted: [],
  failed: [],
  restarting: [],
};

test('a node that is well tells nothing, nor does one whose proxy nobody needs yet, or that tracks no connection', () => {
  assert.deepEqual(nodeWarnings(well), []);
  assert.deepEqual(nodeWarnings({ ...well, conntrack: undefined }), []);
  assert.deepEqual(nodeWarnings({ ...well, health: { ...well.health, ingress: { port: 8443, running: false }, metrics: {} } }), []);
});

test('each trouble is told with its figures and what to do', () => {
  const { health } = well;
  const nearlyFull = { used: 229, free: 20, quarantined: 4 };
  const cases: readonly (readonly [Partial<NodeFacts>, RegExp])[] = [
    [{ health: { ...health, kernel: { ...health.kernel, inSync: false, reason: 'iptables-restore exited with 4' } } }, /^the kernel does not hold .*: iptables-restore exited with 4$/],
    [{ conntrack: { entries: 90, maximum: 100 } }, /nearly full \(90 of 100\).*nf_conntrack_max/],
    [{ conntrack: { entries: 100, maximum: 100 } }, /is full \(100 of 100\): new connections are dropped;.*nf_conntrack_max/],
    [{ health: { ...health, ingress: { port: 8443, running: false, reason: 'port 8443 is in use' } } }, /^the ingress proxy does not run: port 8443 is in use$/],
    [{ health: { ...health, ingress: { port: 8443, running: true, reason: 'it refused a route' } } }, /^the ingress proxy on port 8443: it refused a route$/],
    [{ health: { ...health, ingress: { port: 8443, running: false } }, figures: { ...figures, ingresses: 1 } }, /^the ingress proxy does not run yet on port 8443$/],
    [{ figures: { ...figures, pools: { clusterIps: pool, workloadIps: nearlyFull } } }, /^229 of 253 workload addresses are in use: stop workloads/],
    [{ figures: { ...figures, pools: { clusterIps: { used: 6, free: 0, quarantined: 0 }, workloadIps: pool } } }, /^6 of 6 virtual IPs are in use, none is left: delete services/],
    [{ failed: ['default/a'] }, /^workload default\/a could not be started$/],
    [{ restarting: ['default/a', 'default/b'] }, /^2 workloads default\/a, default\/b keep ending/],
    [{ deserted: ['a/1', 'a/2', 'a/3', 'a/4', 'a/5'] }, /^5 services a\/1, a\/2, a\/3 and 2 more have no healthy endpoint/],
    [{ health: { ...health, metrics: { failure: '127.0.0.1:10201 is in use by another program' } } }, /^metrics are not served: 127\.0\.0\.1:10201 is in use/],
  ];
  for (const [facts, expected] of cases) {
    const warnings = nodeWarnings({ ...well, ...facts });
    assert.equal(warnings.length, 1, JSON.stringify(warnings));
    assert.match(warnings[0] ?? '', expected);
  }
});
