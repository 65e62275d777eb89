/** The ingress proxy's routing table: every rule with the healthy endpoints of its service. Pure. */
import type { Desired } from '../model/observed.ts';
import type { Ingress, IngressRule } from '../model/ingress.ts';
import { recordKey } from '../model/record.ts';
import type { Route, RouteTarget } from '../model/route-snapshot.ts';
import type { Service } from '../model/service.ts';
import type { EndpointsOf } from './endpoints.ts';

/** Routes in host and path order. Where two ingresses claim the same host and path, the older one keeps it. TLS ingresses are not served in plain. */
export function compileRoutes(desired: Desired, endpointsOf: EndpointsOf): Route[] {
  const claimed = new Map<string, Route>();
  for (const ingress of [...desired.ingresses.values()].toSorted(byAge)) {
    if (ingress.tls) continue;
    for (const rule of ingress.rules) {
      const claim = routeKey(rule);
      if (claimed.has(claim)) continue;
      const service = desired.services.get(recordKey('services', { namespace: ingress.namespace, name: rule.service }));
      claimed.set(claim, {
        host: rule.host,
        path: rule.path,
        ingress: `${ingress.namespace}/${ingress.name}`,
        service: `${ingress.namespace}/${rule.service}`,
        targets: service === undefined ? [] : httpTargets(service, endpointsOf),
      });
    }
  }
  return [...claimed].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, route]) => route);
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

function byAge(a: Ingress, b: Ingress): number {
  const left = `${a.createdAt} ${a.namespace}/${a.name}`;
  const right = `${b.createdAt} ${b.namespace}/${b.name}`;
  return left < right ? -1 : 1;
}
