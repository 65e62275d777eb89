/**
 * What people ask for in their own words, and the one tool and arguments that a model should come to. A name that a request leaves
 * open is the one that lies nearest.
 *
 * Checked by hand: each request was read against the names, descriptions and schemas of tools/list alone, as a model has them;
 * where a second tool tempted, the descriptions were changed until it did not.
 * Checked by `plain-requests.test.ts`: the arguments fit the listed schema and the real one, each tool comes up, the set says
 * whether the tool is in the default set, and the calls, in this order, are carried out by a model agent with the outcome told here.
 */
export interface PlainRequest {
  readonly request: string;
  /** The smallest set that can serve it. */
  readonly set: 'default' | 'all';
  readonly tool: string;
  readonly args: Readonly<Record<string, unknown>>;
  /** What refuses it in a model, where nothing runs and nothing can be attached. */
  readonly refusedByModel?: 'NOT_SUPPORTED' | 'WORKLOAD_NOT_FOUND';
}

const WEB_PORTS = [{ name: 'http', port: 8080 }];
const FROM_API = { port: 5432, from: { selector: { app: 'api' } } };
const TEAM_B = 'apiVersion: v1\nkind: Namespace\nmetadata:\n  name: team-b\n';

export const plainRequests: readonly PlainRequest[] = [
  // How the node is.
  { request: 'is the network on this box healthy?', set: 'default', tool: 'network_status', args: {} },
  { request: 'how many addresses are left?', set: 'default', tool: 'network_status', args: {} },

  // Workloads.
  { request: 'start /srv/web/server as web-1 with the label app=web. it listens on 8080, call that port http', set: 'default', tool: 'workload_run', args: { name: 'web-1', labels: { app: 'web' }, command: ['/srv/web/server'], ports: WEB_PORTS } },
  { request: 'and another one just like it, web-2', set: 'default', tool: 'workload_run', args: { name: 'web-2', labels: { app: 'web' }, command: ['/srv/web/server'], ports: WEB_PORTS } },
  { request: 'run the API: /srv/api/server --quiet as api-1, app=api, PORT=8080 in its environment', set: 'default', tool: 'workload_run', args: { name: 'api-1', labels: { app: 'api' }, command: ['/srv/api/server', '--quiet'], env: { PORT: '8080' } } },
  { request: 'I need a redis:7 container named cache, label app=cache, that comes back whenever it dies', set: 'default', tool: 'workload_run', args: { name: 'cache', labels: { app: 'cache' }, image: 'redis:7', restart: 'always' } },
  { request: 'our database: run `postgres -D /srv/pg` as pg, app=postgres, port 5432', set: 'default', tool: 'workload_run', args: { name: 'pg', labels: { app: 'postgres' }, command: ['postgres', '-D', '/srv/pg'], ports: [{ port: 5432 }] } },
  { request: 'what is running here?', set: 'default', tool: 'workload_list', args: {} },
  { request: 'we have more than 50 workloads, list 200 of namespace default in one go', set: 'default', tool: 'workload_list', args: { namespace: 'default', limit: 200 } },
  { request: 'why did pg fail to start?', set: 'all', tool: 'workload_get', args: { name: 'pg' } },
  { request: 'show me the last 20 lines that web-1 printed', set: 'default', tool: 'workload_logs', args: { name: 'web-1', tail: 20 } },
  { request: 'there is a Docker container legacy-app running already; bring it into the network as legacy, with app=web', set: 'all', tool: 'workload_attach', args: { name: 'legacy', labels: { app: 'web' }, container: 'legacy-app' }, refusedByModel: 'NOT_SUPPORTED' },
  { request: 'take legacy out of the network again, but the container must go on running', set: 'all', tool: 'workload_detach', args: { name: 'legacy' }, refusedByModel: 'WORKLOAD_NOT_FOUND' },

  // Services.
  { request: 'give the app=web workloads one stable address called web on port 80; they listen on the port they call http', set: 'default', tool: 'service_create', args: { name: 'web', selector: { app: 'web' }, port: 80, targetPort: 'http' } },
  { request: 'make app=postgres reachable under one IP on 5432, as pg', set: 'default', tool: 'service_create', args: { name: 'pg', selector: { app: 'postgres' }, port: 5432 } },
  { request: 'service api for app=api on 8080, but send traffic only to those that answer GET /ready', set: 'default', tool: 'service_create', args: { name: 'api', selector: { app: 'api' }, port: 8080, healthCheck: { type: 'http', path: '/ready' } } },
  { request: 'the old MySQL stays at 192.0.2.10:3306. I want a virtual IP for it, name it legacy-db', set: 'default', tool: 'service_create', args: { name: 'legacy-db', port: 3306, endpoints: [{ ip: '192.0.2.10', port: 3306 }] } },
  { request: 'app=dns answers on 53, both UDP and TCP: one address for both, called dns, with the ports udp and tcp', set: 'default', tool: 'service_create', args: { name: 'dns', selector: { app: 'dns' }, ports: [{ name: 'udp', port: 53, protocol: 'udp' }, { name: 'tcp', port: 53, protocol: 'tcp' }] } },
  { request: 'which services are there?', set: 'default', tool: 'service_list', args: {} },
  { request: 'what selector and target port does web use?', set: 'default', tool: 'service_get', args: { name: 'web' } },
  { request: 'what health check did we set on the api service?', set: 'default', tool: 'service_get', args: { name: 'api' } },
  { request: 'the web service does not answer. is anything behind it at all?', set: 'default', tool: 'service_endpoints', args: { name: 'web' } },
  { request: 'which of the api backends is unhealthy and why?', set: 'default', tool: 'service_endpoints', args: { name: 'api' } },
  { request: 'move web to port 8000, and nobody should have to learn a new IP', set: 'all', tool: 'service_update', args: { name: 'web', port: 8000 } },
  { request: 'each client should stay with the same web server', set: 'all', tool: 'service_update', args: { name: 'web', sessionAffinity: { type: 'clientIP' } } },
  { request: 'no health check for api any more', set: 'all', tool: 'service_update', args: { name: 'api', healthCheck: null } },
  { request: 'web-2 is a canary now: label it app=canary so that web leaves it alone, without restarting it', set: 'all', tool: 'workload_update', args: { name: 'web-2', labels: { app: 'canary' } } },

  // Ingress.
  { request: 'put www.example.com in front of the web service', set: 'default', tool: 'ingress_create', args: { name: 'web', rules: [{ host: 'www.example.com', service: 'web' }] } },
  { request: 'api.example.com/v1 goes to api and everything else of that host to web; call it gateway', set: 'default', tool: 'ingress_create', args: { name: 'gateway', rules: [{ host: 'api.example.com', path: '/v1', service: 'api' }, { host: 'api.example.com', path: '/', service: 'web' }] } },
  { request: 'which host names do we serve to the outside?', set: 'default', tool: 'ingress_list', args: {} },
  { request: 'is the ingress gateway ready?', set: 'all', tool: 'ingress_get', args: { name: 'gateway' } },
  { request: 'www.example.com/shop should go to api from now on, the rest of ingress web stays with web', set: 'all', tool: 'ingress_update', args: { name: 'web', rules: [{ host: 'www.example.com', path: '/shop', service: 'api' }, { host: 'www.example.com', path: '/', service: 'web' }] } },
  { request: 'stop serving what the ingress gateway serves', set: 'default', tool: 'ingress_delete', args: { name: 'gateway' } },

  // Who may reach whom.
  { request: 'if only app=api could reach app=db on 5432, would a web workload still get in? nothing of that runs yet', set: 'all', tool: 'network_simulate', args: { workloads: [{ name: 'web', labels: { app: 'web' } }, { name: 'db', labels: { app: 'db' } }], policies: [{ name: 'db', selector: { app: 'db' }, ingress: [FROM_API] }], probes: [{ from: 'default/web', to: 'default/db', port: 5432 }] } },
  { request: 'our database (app=postgres) should only be reachable from the API (app=api) on 5432; call the policy db', set: 'default', tool: 'network_policy_create', args: { name: 'db', selector: { app: 'postgres' }, ingress: [FROM_API] } },
  { request: 'policy secure: app=secure must not talk to anybody, nor anybody to it', set: 'default', tool: 'network_policy_create', args: { name: 'secure', selector: { app: 'secure' }, ingress: [], egress: [] } },
  { request: 'a policy cache: app=cache reachable only from app=web on 6379. block nothing yet, just watch what it would cut off', set: 'default', tool: 'network_policy_create', args: { name: 'cache', selector: { app: 'cache' }, ingress: [{ port: 6379, from: { selector: { app: 'web' } } }], mode: 'audit' } },
  { request: 'api-egress: the API (app=api) may go out to 10.20.0.0/16, except 10.20.5.0/24, and nowhere else', set: 'default', tool: 'network_policy_create', args: { name: 'api-egress', selector: { app: 'api' }, egress: [{ to: { cidr: '10.20.0.0/16', except: ['10.20.5.0/24'] } }] } },
  { request: "why can't web-1 talk to pg? (5432)", set: 'default', tool: 'network_explain', args: { from: 'web-1', to: 'pg', port: 5432 } },
  { request: 'may the ingress proxy connect to web-1 on 8080, and which policy says so?', set: 'default', tool: 'network_explain', args: { from: 'entity:ingress', to: 'web-1', port: 8080 } },
  { request: 'what would I have to change so that api-1 gets to 198.51.100.7 port 443?', set: 'default', tool: 'network_explain', args: { from: 'api-1', to: '198.51.100.7', port: 443 } },
  { request: "don't tell me the rules, try it: does api-1 get through to pg on 5432?", set: 'all', tool: 'network_probe', args: { from: 'api-1', to: 'pg', port: 5432 }, refusedByModel: 'NOT_SUPPORTED' },
  { request: 'is the firewall really blocking web-1 from pg on 5432, as the policies say?', set: 'all', tool: 'network_probe', args: { from: 'web-1', to: 'pg', port: 5432 }, refusedByModel: 'NOT_SUPPORTED' },
  { request: 'what has been blocked since 9:00 UTC on 26 November 2026?', set: 'all', tool: 'network_flows', args: { verdict: 'deny', since: '2026-11-26T09:00:00Z' } },
  { request: 'which connections to cache would the policy on trial have cut off?', set: 'all', tool: 'network_flows', args: { workload: 'cache', verdict: 'audit' } },
  { request: 'which policies do we have, and do they count?', set: 'default', tool: 'network_policy_list', args: {} },
  { request: 'what exactly does the policy db let in?', set: 'all', tool: 'network_policy_get', args: { name: 'db' } },
  { request: 'let app=reporting into the database too, 5432, in the same policy db', set: 'all', tool: 'network_policy_update', args: { name: 'db', ingress: [FROM_API, { port: 5432, from: { selector: { app: 'reporting' } } }] } },
  { request: 'we have watched the cache policy long enough, switch it on', set: 'all', tool: 'network_policy_update', args: { name: 'cache', mode: 'enforce' } },
  { request: 'app=secure may talk again: drop that policy', set: 'default', tool: 'network_policy_delete', args: { name: 'secure' } },

  // Manifests and namespaces.
  { request: `apply this manifest but only tell me what would happen:\n${TEAM_B}`, set: 'all', tool: 'network_apply', args: { manifest: TEAM_B, dryRun: true } },
  { request: `kubectl apply this for me:\n${TEAM_B}`, set: 'all', tool: 'network_apply', args: { manifest: TEAM_B } },
  { request: 'give me everything as YAML, for a backup', set: 'all', tool: 'network_export', args: {} },
  { request: 'the YAML of namespace team-b alone', set: 'all', tool: 'network_export', args: { namespace: 'team-b' } },
  { request: 'set up a namespace team-a labelled tier=gold', set: 'all', tool: 'namespace_create', args: { name: 'team-a', labels: { tier: 'gold' } } },
  { request: 'which namespaces exist?', set: 'all', tool: 'namespace_list', args: {} },
  { request: 'team-a is tier=silver now', set: 'all', tool: 'namespace_update', args: { name: 'team-a', labels: { tier: 'silver' } } },
  { request: 'get rid of the namespace team-a', set: 'all', tool: 'namespace_delete', args: { name: 'team-a' } },

  // The end.
  { request: 'which services does team-b have?', set: 'default', tool: 'service_list', args: { namespace: 'team-b' } },
  { request: 'shut web-2 down for good', set: 'default', tool: 'workload_stop', args: { name: 'web-2' } },
  { request: 'we do not need the service legacy-db any more', set: 'default', tool: 'service_delete', args: { name: 'legacy-db' } },
];
