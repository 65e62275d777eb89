/** Session affinity of one service: the rules that keep a client at its endpoint, and the sets in which the kernel remembers it. Pure. */
import { createHash } from 'node:crypto';
import type { Endpoint } from '../model/observed.ts';
import { recordKey } from '../model/record.ts';
import type { Service } from '../model/service.ts';
import type { IpsetState, Rules } from './kernel-state.ts';

/** Where the rules of a service lead a connection that goes to this endpoint. */
export interface AffineEndpoint {
  /** Holds the clients of the endpoint. Its members come and go by packets and time, never by us. */
  readonly set: IpsetState;
  /** Puts the client into the set, or renews it there, and translates. */
  readonly chain: { readonly name: string; readonly rules: Rules };
}

/**
 * So many clients of one endpoint are remembered. Of more the kernel remembers none, and they are balanced anew with each
 * connection: adding to a full set fails, and the packet goes on to its translation.
 */
const MOST_CLIENTS = 65_536;
/** Only a set that is made with a timeout lets its members age; how fast is said by the rule that adds them. */
const SET_TIMEOUT_SECONDS = 86_400;

/**
 * One set and one chain per endpoint. The set goes with the endpoint, and with it the memory of who was there: when the endpoint
 * comes back, those who have moved meanwhile are not torn from where they are now.
 */
export function affineEndpoint(service: Service, endpoint: Endpoint, timeoutSeconds: number): AffineEndpoint {
  const id = idOf(service, endpoint);
  const set = `CLAW-A-${id}`;
  return {
    set: { name: set, create: `hash:ip family inet hashsize 64 maxelem ${MOST_CLIENTS} timeout ${SET_TIMEOUT_SECONDS}`, members: NONE },
    chain: {
      name: `CLAW-E-${id}`,
      rules: [
        `-j SET --add-set ${set} src --exist --timeout ${timeoutSeconds}`,
        ...endpoint.ports.map(
          ({ protocol, servicePort, port }) => `-p ${protocol} -m ${protocol} --dport ${servicePort} -j DNAT --to-destination ${endpoint.ip}:${port}`,
        ),
      ],
    },
  };
}

const NONE: ReadonlySet<string> = new Set();

/** A workload stays the same endpoint when its port changes. Names of chains hold 28 bytes and those of sets 31, so it is hashed. */
function idOf(service: Service, { containerId, ip, ports }: Endpoint): string {
  const endpoint = containerId ?? `${ip}:${ports[0]?.port ?? ''}`;
  return createHash('sha256').update(`${recordKey('services', service)} ${endpoint}`).digest('hex').slice(0, 20).toUpperCase();
}
