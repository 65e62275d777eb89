/** One answer per command, as the agent would give it: what the fake agent of the MCP tests answers. */

const web = { namespace: 'default', name: 'web' };
const createdAt = '2026-01-02T03:04:05.000Z';
const endpoint = { ip: '10.200.1.2', port: 8080, containerId: '0a1b2c3d', healthy: true, node: 'n1' };
const written = { ...web, port: 80, protocol: 'tcp', clusterIp: '10.201.0.1', success: true, warnings: [], enforced: true };
const rule = { host: 'www.example.com', path: '/', service: 'web' };
const ingress = { ...web, rules: [{ ...rule, ready: true }], tls: false, urls: ['http://www.example.com:8443/'], createdAt };
const ingressWritten = { ...web, tls: false, success: true, urls: ['http://www.example.com:8443/'], warnings: [], enforced: true };
const workload = {
  id: '0a1b2c3d',
  ...web,
  labels: { app: 'web' },
  runtime: 'process',
  state: 'running',
  restarts: 0,
  meshIp: '10.200.1.2',
  network: 'claw-mesh',
  subnet: '10.200.1.0/24',
  gateway: '10.200.1.1',
  ports: [{ name: 'http', port: 8080, protocol: 'tcp' }],
  node: 'n1',
  createdAt,
};
const namespaceWritten = { name: 'team-a', labels: { tier: 'gold' }, success: true, enforced: true };
const pool = { used: 1, free: 99, quarantined: 0 };

const policy = { ...web, selector: { app: 'db' }, mode: 'enforce', selected: 1, createdAt };
const policyWritten = { ...web, success: true, selected: 1, warnings: [], enforced: true };
const flow = { from: 'default/web', to: 'default/db', port: 5432, protocol: 'tcp' };

export const sampleAnswers: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  'service.create': written,
  'service.get': {
    ...web,
    selector: { app: 'web' },
    port: 80,
    protocol: 'tcp',
    targetPort: 8080,
    ports: [{ port: 80, protocol: 'tcp', targetPort: 8080 }],
    endpoints: [],
    clusterIp: '10.201.0.1',
    liveEndpoints: [endpoint],
    createdAt,
    enforced: true,
  },
  'service.list': {
    count: 1,
    services: [{ ...web, port: 80, protocol: 'tcp', clusterIp: '10.201.0.1', endpoints: 1, healthy: 1, createdAt }],
  },
  'service.update': written,
  'service.delete': { ...web, deleted: true, clusterIp: '10.201.0.1', enforced: true },
  'service.endpoints': { ...web, clusterIp: '10.201.0.1', total: 1, healthy: 1, endpoints: [endpoint] },
  'ingress.create': ingressWritten,
  'ingress.get': { ...ingress, enforced: true },
  'ingress.list': { count: 1, ingresses: [ingress] },
  'ingress.update': ingressWritten,
  'ingress.delete': { ...web, deleted: true, enforced: true },
  'network.policy.create': policyWritten,
  'network.policy.get': { ...policy, ingress: [{ port: 5432, protocol: 'tcp', from: { selector: { app: 'api' } } }], egress: [], origin: 'native', enforced: true },
  'network.policy.list': { count: 1, policies: [{ ...policy, ingressRules: 1, egressRules: 0 }], enforcement: { active: true, iptablesAvailable: true } },
  'network.policy.update': policyWritten,
  'network.policy.delete': { ...web, deleted: true, enforced: true },
  'network.explain': {
    ...flow,
    verdict: 'deny',
    reason: 'no rule allows it',
    path: [{ step: 'ingress', text: 'no rule allows it', verdict: 'deny', policy: 'default/db' }],
    remedy: { text: 'add a rule', calls: [{ command: 'network.policy.update', params: { name: 'db' } }] },
    enforced: true,
  },
  'network.probe': { ...flow, reachable: false, latencyMs: 0.5, error: 'forbidden on the way (EHOSTUNREACH)', expected: 'deny', agreesWithModel: true, reason: 'no rule allows it' },
  'network.simulate': { results: [{ ...flow, ingress: 'deny', egress: 'allow', verdict: 'deny', reason: 'no rule allows it' }] },
  'workload.run': { ...workload, enforced: true },
  'workload.get': { ...workload, state: 'exited', exitCode: 3, enforced: true },
  'workload.list': { count: 2, nextCursor: 'next', workloads: [workload] },
  'workload.logs': { ...web, lines: ['listening', '\u001B[31mred\u001B[0m \u202Egnippils'] },
  'workload.update': { ...workload, enforced: false, reason: 'the kernel refused it' },
  'workload.attach': { ...workload, runtime: 'attached', enforced: true },
  'workload.detach': { ...web, stopped: true, released: '10.200.1.2', enforced: true },
  'workload.stop': { ...web, stopped: true, released: '10.200.1.2', enforced: true },
  'namespace.create': namespaceWritten,
  'namespace.list': { count: 1, namespaces: [{ name: 'team-a', labels: {}, createdAt }] },
  'namespace.update': namespaceWritten,
  'namespace.delete': { name: 'team-a', deleted: true, enforced: true },
  'network.apply': { applied: [{ kind: 'Service', ...web, action: 'created' }, { kind: 'Namespace', name: 'team-a', action: 'unchanged' }], warnings: ['manifest[0]: w'], enforced: true },
  'network.export': { manifest: 'apiVersion: v1\nkind: Namespace\nmetadata:\n  name: team-a\n---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: team-b\n' },
  'network.status': {
    node: 'n1',
    mode: 'sandbox',
    version: '0.1.0',
    mesh: { nodeCount: 1, nodes: [{ id: 'n1', meshIp: null, region: null }] },
    wireguard: null,
    serviceDiscovery: {
      serviceCount: 1,
      iptablesAvailable: true,
      endpoints: 1,
      healthy: 1,
      services: [{ ...web, clusterIp: '10.201.0.1', port: 80, endpoints: 1, healthy: 1 }],
    },
    policies: { count: 1, audit: 0 },
    workloads: { total: 1, running: 1 },
    allocator: { stats: { clusterIps: pool, workloadIps: pool, workloadSubnets: pool, meshIps: { gateway: pool } } },
    conntrack: { entries: 3, maximum: 262_144 },
    ingress: { port: 8443, running: true },
    kernel: { inSync: true, backend: 'nft', revision: 7 },
    drift: { repairs: 0 },
    audit: { works: true, denied: 0, audited: 0 },
    store: { driver: 'sqlite', revision: 7 },
    metrics: { url: 'http://127.0.0.1:10201/metrics' },
    warnings: [],
  },
  'network.flows': {
    flows: [
      {
        time: createdAt,
        from: 'default/web',
        fromIp: '10.200.1.2',
        to: 'shop/db',
        toIp: '10.200.1.3',
        port: 5432,
        protocol: 'tcp',
        verdict: 'deny',
        direction: 'ingress',
        policy: 'shop/db',
        mode: 'enforce',
        count: 1,
      },
    ],
    count: 1,
    auditWorks: false,
    reason: 'ulogd2 is not installed',
  },
};
