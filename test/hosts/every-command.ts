/** A script of calls that uses every command in an order that makes each meaningful, failures too. It only names the calls and makes none. */

export type Answer = Readonly<Record<string, unknown>>;

export interface Step {
  readonly command: string;
  readonly params: Answer;
  /** What has to be seen first: the world takes its time. */
  readonly after?: { readonly command: string; readonly params: Answer; readonly holds: (answer: Answer) => boolean };
  /** A second call would change what later steps see. */
  readonly once?: true;
}

/** A network namespace that somebody else made where the agent runs, by `ip netns add`: it has to be there before the script begins. */
export const FOREIGN_NETNS = 'foreign';

const PORT = 8080;
const server = `require('http').createServer((request, response) => response.end('hello')).listen(${PORT}, () => console.log('ready', process.env.GREETING))`;
const manifest = `apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {tier: gold}}
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {selector: {app: cart}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: cart-only, namespace: shop}
spec: {podSelector: {matchLabels: {app: cart}}, policyTypes: [Ingress], ingress: []}
`;
const toWeb = { from: 'default/client', to: 'default/web-1', port: PORT };
const fromClient = { port: PORT, from: { selector: { app: 'client' } } };

const printed = (name: string, word: string): NonNullable<Step['after']> => ({ command: 'workload.logs', params: { name }, holds: ({ lines }) => JSON.stringify(lines).includes(word) });

/** Its proxy and its reader of denied connections come up a little after the agent itself. */
const hasStarted = ({ ingress, audit }: Answer): boolean => JSON.stringify(ingress).includes('"running":true') && JSON.stringify(audit).includes('"works":true');

const namespaces: readonly Step[] = [
  { command: 'network.status', params: {}, after: { command: 'network.status', params: {}, holds: hasStarted } },
  { command: 'namespace.create', params: { name: 'team-a', labels: { tier: 'gold' } } },
  { command: 'namespace.create', params: { name: 'team-a' } },
  { command: 'namespace.update', params: { name: 'team-a', labels: { tier: 'silver' } } },
  { command: 'namespace.list', params: {} },
];

const workloads: readonly Step[] = [
  {
    command: 'workload.run',
    params: {
      name: 'web-1',
      labels: { app: 'web' },
      command: [process.execPath, '-e', server],
      env: { GREETING: 'to whom it may concern' },
      ports: [{ name: 'http', port: PORT }],
    },
  },
  { command: 'workload.run', params: { name: 'client', labels: { app: 'client' }, command: ['sleep', 'infinity'] } },
  { command: 'workload.run', params: { name: 'short', namespace: 'team-a', command: ['/bin/sh', '-c', 'sleep 1; exit 3'] } },
  { command: 'workload.run', params: { name: 'web-1', command: ['sleep', '1'] } },
  { command: 'workload.run', params: { name: 'boxed', image: 'debian:stable', command: ['sleep', '1'] } },
  { command: 'workload.logs', params: { name: 'web-1', tail: 5 }, after: printed('web-1', 'ready') },
  {
    command: 'workload.get',
    params: { name: 'short', namespace: 'team-a' },
    after: { command: 'workload.get', params: { name: 'short', namespace: 'team-a' }, holds: ({ state }) => state === 'exited' },
  },
  { command: 'workload.get', params: { name: 'web-1' } },
  { command: 'workload.list', params: {} },
  { command: 'workload.list', params: { limit: 1, namespace: 'default' } },
];

const services: readonly Step[] = [
  { command: 'service.create', params: { name: 'web', selector: { app: 'web' }, port: 80, targetPort: 'http' } },
  { command: 'service.create', params: { name: 'web', selector: { app: 'web' }, port: 80 } },
  { command: 'service.create', params: { name: 'api', port: 80_000 } },
  { command: 'service.create', params: { name: 'api', colour: 'red' } },
  { command: 'service.create', params: { name: 'outside', port: 53, protocol: 'udp', endpoints: [{ ip: '192.0.2.53', port: 53 }], sessionAffinity: { type: 'clientIP', timeoutSeconds: 600 } } },
  { command: 'service.update', params: { name: 'outside', sessionAffinity: null, drainSeconds: 2 } },
  { command: 'service.update', params: { name: 'web', port: 8000 } },
  { command: 'service.get', params: { name: 'web' } },
  { command: 'service.get', params: { name: 'outside' } },
  { command: 'service.get', params: { name: 'nobody' } },
  { command: 'service.list', params: { limit: 1 } },
  { command: 'service.list', params: { cursor: 'no cursor' } },
  { command: 'service.endpoints', params: { name: 'web' } },
  { command: 'ingress.create', params: { name: 'front', rules: [{ host: 'www.example.com', path: '/', service: 'web' }] } },
  { command: 'ingress.create', params: { name: 'later', rules: [{ host: 'later.example.com', path: '/', service: 'later' }] } },
  { command: 'ingress.update', params: { name: 'later', rules: [{ host: 'later.example.com', path: '/v2', service: 'web' }] } },
  {
    command: 'ingress.get',
    params: { name: 'front' },
    after: { command: 'ingress.get', params: { name: 'front' }, holds: ({ rules }) => JSON.stringify(rules).includes('"ready":true') },
  },
  { command: 'ingress.list', params: {} },
];

const policies: readonly Step[] = [
  { command: 'network.explain', params: toWeb },
  { command: 'network.probe', params: toWeb },
  { command: 'network.policy.create', params: { name: 'web-closed', selector: { app: 'web' }, ingress: [] } },
  { command: 'network.explain', params: toWeb },
  { command: 'network.probe', params: toWeb, once: true },
  {
    command: 'network.flows',
    params: { verdict: 'deny', workload: 'client' },
    after: { command: 'network.flows', params: {}, holds: ({ count }) => count !== 0 },
  },
  { command: 'network.policy.update', params: { name: 'web-closed', ingress: [fromClient] } },
  { command: 'network.policy.get', params: { name: 'web-closed' } },
  { command: 'network.policy.list', params: {} },
  { command: 'network.probe', params: toWeb },
  {
    command: 'network.simulate',
    params: {
      workloads: [{ name: 'web', labels: { app: 'web' }, ports: [{ port: PORT }] }, { name: 'client', labels: { app: 'client' } }],
      policies: [{ name: 'web-closed', selector: { app: 'web' }, ingress: [fromClient] }],
    },
  },
  { command: 'network.apply', params: { manifest, dryRun: true } },
  { command: 'network.apply', params: { manifest } },
  { command: 'network.apply', params: { manifest: 'kind: Nonsense' } },
  { command: 'network.export', params: {} },
  { command: 'network.status', params: {} },
];

/** Addresses are given back only here: they count as quarantined for a minute, and the last status tells how many are. */
const endings: readonly Step[] = [
  { command: 'workload.attach', params: { name: 'guest', labels: { app: 'guest' }, netns: `/run/netns/${FOREIGN_NETNS}` } },
  { command: 'workload.attach', params: { name: 'nobody', netns: '/run/netns/nobody-made-this' } },
  { command: 'workload.attach', params: { name: 'boxed', container: 'nobody-made-this' } },
  { command: 'workload.get', params: { name: 'guest' } },
  { command: 'workload.stop', params: { name: 'guest' } },
  { command: 'workload.detach', params: { name: 'guest' } },
  { command: 'workload.detach', params: { name: 'guest' } },
  { command: 'workload.detach', params: { name: 'web-1' } },
  { command: 'workload.update', params: { name: 'web-1', labels: { app: 'retired' } } },
  { command: 'service.endpoints', params: { name: 'web' } },
  { command: 'namespace.delete', params: { name: 'team-a' } },
  { command: 'ingress.delete', params: { name: 'front' } },
  { command: 'network.policy.delete', params: { name: 'web-closed' } },
  { command: 'service.delete', params: { name: 'web' } },
  { command: 'service.delete', params: { name: 'web' } },
  { command: 'workload.stop', params: { name: 'web-1' } },
  { command: 'workload.stop', params: { name: 'short', namespace: 'team-a' } },
  { command: 'namespace.delete', params: { name: 'team-a' } },
  { command: 'workload.list', params: {} },
  { command: 'network.status', params: {} },
];

/** To be carried out from the first to the last, against an agent that holds nothing yet. */
export const everyCommand: readonly Step[] = [...namespaces, ...workloads, ...services, ...policies, ...endings];
