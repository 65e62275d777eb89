/** The ingress proxy's routing table: every rule with the healthy endpoints of its service. Pure. */
import type { Desired } from '../model/observed.ts';
import type { Ingress, IngressRule } from '../model/ingress.ts';
import { recordKey } from '../model/record.ts';
import type { Route, RouteTarget } from '../model/route-snapshot.ts';
import type { Service } from '../model/service.ts';
import type { EndpointsOf } from './endpoints.ts';

/** Routes in host and path order. TLS ingresses are not served in plain. */
export function compileRoutes(desired: Desired, endpointsOf: EndpointsOf): Route[] {
  const routes = [...claimedRoutes(desired)].map(([claim, { ingress, rule }]): [string, Route] => {
    const service = desired.services.get(recordKey('services', { namespace: ingress.namespace, name: rule.service }));
    const route = {
      host: rule.host,
      path: rule.path,
      ingress: `${ingress.namespace}/${ingress.name}`,
      service: `${ingress.namespace}/${rule.service}`,
      targets: service === undefined ? [] : httpTargets(service, endpointsOf),
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

/** The healthy endpoints of the service's first TCP port; none for a service that has only UDP ports. */
export function httpTargets(service: Service, endpointsOf: EndpointsOf): RouteTarget[] {
  const httpPort = service.ports.find((port) => port.protocol === 'tcp');
  return endpointsOf(service)
    .filter((endpoint) => endpoint.healthy)
    .flatMap((endpoint) =>
      endpoint.ports
        .filter((port) => port.protocol === 'tcp' && port.servicePort === httpPort?.port)
        .map((port) => ({ ip: endpoint.ip, port: port.port })),
    );
}

function isOlder(a: Ingress, b: Ingress): boolean {
  if (a.createdAt !== b.createdAt) return a.createdAt < b.createdAt;
  return recordKey('ingresses', a) < recordKey('ingresses', b);
}
