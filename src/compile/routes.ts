/** The ingress proxy's routing table: every rule with the healthy endpoints of its service. Pure. */
import type { Desired } from '../model/observed.ts';
import type { Ingress, IngressRule } from '../model/ingress.ts';
import { recordKey } from '../model/record.ts';
import type { Route, RouteTarget } from '../model/route-snapshot.ts';
import type { Service, ServicePort } from '../model/service.ts';
import { policyModel } from '../policy/evaluate.ts';
import { namespaceLabels } from '../policy/parties.ts';
import type { EndpointsOf } from './endpoints.ts';

/** Routes in host and path order. TLS ingresses are not served in plain. */
export function compileRoutes(desired: Desired, endpointsOf: EndpointsOf): Route[] {
  const admits = ingressAdmission(desired);
  const routes = [...claimedRoutes(desired)].map(([claim, { ingress, rule }]): [string, Route] => {
    const service = desired.services.get(recordKey('services', { namespace: ingress.namespace, name: rule.service }));
    const route = {
      host: rule.host,
      path: rule.path,
      ingress: `${ingress.namespace}/${ingress.name}`,
      service: `${ingress.namespace}/${rule.service}`,
      ...(service === undefined ? { targets: [] } : admitted(httpTargets(service, endpointsOf), admits)),
    };
    return [claim, route];
  });
  return routes.toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, route]) => route);
}

/** Who answers each host and path, by `routeKey`: where two ingresses claim the same, the older one keeps it. */
export function claimedRoutes(desired: Pick<Desired, 'ingresses'>): ReadonlyMap<string, { readonly ingress: Ingress; readonly rule: IngressRule }> {
  const claimed = new Map<string, { ingress: Ingress; rule: IngressRule }>();
  for (const ingress of desired.ingresses.values()) {
    if (ingress.tls) continue;
    for (const rule of ingress.rules) {
      const held = claimed.get(routeKey(rule));
      if (held === undefined || isOlder(ingress, held.ingress)) claimed.set(routeKey(rule), { ingress, rule });
    }
  }
  return claimed;
}

/** What two rules must not share. */
export function routeKey(rule: Pick<IngressRule, 'host' | 'path'>): string {
  return `${rule.host} ${rule.path}`;
}

/** The port that answers an ingress: the first TCP port. */
export function httpPort(service: Service): ServicePort | undefined {
  return service.ports.find((port) => port.protocol === 'tcp');
}

/** Whether policies let the ingress proxy dial this address and port. */
export type Admits = (target: RouteTarget) => boolean;

export function ingressAdmission({ policies, namespaces, workloads }: Pick<Desired, 'policies' | 'namespaces' | 'workloads'>): Admits {
  if (policies.size === 0) return () => true;
  const model = policyModel({ policies: policies.values(), namespaces: namespaceLabels(namespaces.values()) });
  const byIp = new Map([...workloads.values()].map((workload) => [workload.ip, workload]));
  return ({ ip, port }) => {
    const workload = byIp.get(ip);
    const to = workload === undefined ? { kind: 'address' as const, ip } : { kind: 'workload' as const, workload };
    return model.judge({ from: { kind: 'ingress' }, to, protocol: 'tcp', port }).verdict === 'allow';
  };
}

/** What the proxy may dial of these; `refused` where that is nothing although there is something. */
export function admitted(targets: readonly RouteTarget[], admits: Admits): { targets: RouteTarget[]; refused?: true } {
  const open = targets.filter(admits);
  return { targets: open, ...(open.length === 0 && targets.length > 0 ? { refused: true } : {}) };
}

/** The healthy endpoints of the service's first TCP port; none for a service that has only UDP ports. */
export function httpTargets(service: Service, endpointsOf: EndpointsOf): RouteTarget[] {
  const answering = httpPort(service)?.port;
  return endpointsOf(service)
    .filter((endpoint) => endpoint.healthy)
    .flatMap((endpoint) =>
      endpoint.ports
        .filter((port) => port.protocol === 'tcp' && port.servicePort === answering)
        .map((port) => ({ ip: endpoint.ip, port: port.port })),
    );
}

function isOlder(a: Ingress, b: Ingress): boolean {
  if (a.createdAt !== b.createdAt) return a.createdAt < b.createdAt;
  return recordKey('ingresses', a) < recordKey('ingresses', b);
}
