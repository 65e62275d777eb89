/** Whose source address is rewritten on the way out: hairpin connections and workloads' traffic to the outside. Pure. */
import { MESH_INTERFACE, type Node } from '../model/node.ts';
import type { IpsetState, Jump, Rules, WorkloadLink } from './kernel-state.ts';

export const HAIRPIN_SET = 'CLAW-HAIRPIN';

/** nat POSTROUTING. Ours come first and end in ACCEPT inside the mesh, so that a foreign catch-all never hides a workload's address. */
export function compileMasquerade(node: Node): { chains: Map<string, Rules>; jumps: Jump[] } {
  const { clusterIp, workload, mesh } = node.ranges;
  return {
    chains: new Map([
      [
        'CLAW-POSTROUTING',
        [
          // An endpoint that reached itself through a VIP would answer itself directly, past the translation.
          `-m set --match-set ${HAIRPIN_SET} src,dst -j MASQUERADE`,
          `-s ${node.subnet} -g CLAW-MASQUERADE`,
        ],
      ],
      [
        'CLAW-MASQUERADE',
        [
          ...[workload, clusterIp, mesh].map((range) => `-d ${range} -j ACCEPT`),
          `-o ${MESH_INTERFACE} -j ACCEPT`,
          '-j MASQUERADE --random-fully',
        ],
      ],
    ]),
    jumps: [{ chain: 'POSTROUTING', rule: '-m comment --comment clawnode -j CLAW-POSTROUTING', place: 'first' }],
  };
}

/**
 * Each workload's address with its own interface. A workload's packets to its own address never leave its namespace, so what
 * comes from it and goes out of its own interface was translated: one entry per workload serves all services, ports and
 * protocols. The second direction of the match, `dst`, stands for the outgoing interface.
 */
export function compileHairpinSet(links: readonly WorkloadLink[]): IpsetState {
  return {
    name: HAIRPIN_SET,
    create: 'hash:net,iface family inet hashsize 1024 maxelem 65536',
    members: new Set(links.map((link) => `${link.ip},${link.hostInterface}`)),
  };
}
