/** Reads who is meant by one end of a question: a workload, a service, the node, the ingress proxy or an address. Reads only. */
import { ClawError } from '../errors.ts';
import { ipv4 } from '../model/address.ts';
import type { Service } from '../model/service.ts';
import type { Party } from '../policy/parties.ts';
import type { World } from './world.ts';

export type End = { readonly kind: 'party'; readonly party: Party } | { readonly kind: 'service'; readonly service: Service };

const HINT = 'Give "namespace/name", an IPv4 address, "service:namespace/name", "entity:host" or "entity:ingress"; workload.list and service.list show what exists.';

/** A workload is meant before a service of the same name. Throws INVALID_ARGUMENT for a name that nothing has. */
export function readEnd(world: World, text: string, path: 'from' | 'to'): End {
  const { workloads, services } = world.desired;
  if (text === 'entity:host') return party({ kind: 'host' });
  if (text === 'entity:ingress') {
    if (path === 'from') return party({ kind: 'ingress' });
    throw new ClawError('INVALID_ARGUMENT', 'to: the ingress proxy is no destination', { path, hint: 'It listens on the node: ask for "entity:host" and its port.' });
  }
  const ip = ipv4.safeParse(text);
  if (ip.success) {
    const workload = [...workloads.values()].find((candidate) => candidate.ip === ip.data);
    if (workload !== undefined) return party({ kind: 'workload', workload });
    const service = [...services.values()].find(({ clusterIp }) => clusterIp === ip.data);
    if (service !== undefined) return { kind: 'service', service };
    return party(world.isOwnAddress(ip.data) ? { kind: 'host', ip: ip.data } : { kind: 'address', ip: ip.data });
  }
  const meansService = text.startsWith('service:');
  const bare = meansService ? text.slice('service:'.length) : text;
  const name = bare.includes('/') ? bare : `default/${bare}`;
  const workload = meansService ? undefined : workloads.get(`workloads/${name}`);
  if (workload !== undefined) return party({ kind: 'workload', workload });
  const service = services.get(`services/${name}`);
  if (service !== undefined) return { kind: 'service', service };
  throw new ClawError('INVALID_ARGUMENT', `${path}: there is no workload or service ${name}`, { path, hint: HINT });
}

function party(found: Party): End {
  return { kind: 'party', party: found };
}
