/** Who may send through this node: CLAW-NETPOL down to the chains of policies, anti-spoofing and the refusal of untranslated VIPs. Pure. */
import type { Cidr } from '../model/address.ts';
import { WORKLOAD_INTERFACE_PREFIX, type Node } from '../model/node.ts';
import { selfTestRule } from './flow-self-test.ts';
import type { Rules, TableState, WorkloadLink } from './kernel-state.ts';
import { HAIRPIN_SET } from './masquerade.ts';
import type { CompiledPolicies } from './policies.ts';
import { endsOf } from './policy-chains.ts';
import type { Place } from './policy-terms.ts';

const OURS = `${WORKLOAD_INTERFACE_PREFIX}+`;
/**
 * Marks tracked connections that are being cut. Their entries must stay for a moment: without one, an answer that is still on its way would begin
 * a connection of its own, in the other direction, which may well be allowed, and all that follows would belong to it.
 */
export const CUT_MARK = '0x1000000/0x1000000';
const CUT = `-m connmark --mark ${CUT_MARK} -j DROP`;
const NO_SYN = '-p tcp -m conntrack --ctstate NEW -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -j REJECT --reject-with tcp-reset';

/**
 * The filter table. Everything to or from a workload interface ends in ACCEPT, DROP or REJECT here and never returns to
 * foreign rules. An interface with our prefix that no known workload owns is dropped, also while no agent runs. The source's egress
 * is asked before the destination's ingress, and both must return.
 */
export function compileFilter(node: Node, links: readonly WorkloadLink[], policies: Pick<CompiledPolicies, 'entries' | 'chains'>): TableState {
  const vips = node.ranges.clusterIp;
  const into = (place: Place) => (link: WorkloadLink): string => {
    const chain = policies.entries.get(link.id)?.[place];
    return `${place === 'ingress' ? '-o' : '-i'} ${link.hostInterface} ${chain === undefined ? '-j RETURN' : `-g ${chain}`}`;
  };
  return {
    chains: new Map<string, Rules>([
      [
        'CLAW-NETPOL',
        [
          // One way in: the kernel checks every rule that can be reached at each commit, and what is reached twice is checked twice.
          `! -i ${OURS} ! -o ${OURS} -g CLAW-ELSEWHERE`,
          CUT,
          '-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
          // Packets that fit no connection would leave untranslated.
          '-m conntrack --ctstate INVALID -j DROP',
          // Conntrack takes up a TCP stream in its middle: without this, deleting an entry would not cut a connection.
          NO_SYN,
          // A workload reaches itself also through a VIP, whatever its policies say.
          `-m set --match-set ${HAIRPIN_SET} src,dst -j ACCEPT`,
          `! -i ${OURS} -j CLAW-OUTSIDE`,
          `-i ${OURS} -j CLAW-EGRESS`,
          `-o ${OURS} -j CLAW-INGRESS`,
          '-j ACCEPT',
        ],
      ],
      // Through a VIP to an endpoint outside: no workload interface is touched, yet it is our translation.
      ['CLAW-ELSEWHERE', [`-m conntrack --ctstate NEW --ctorigdst ${vips} -j CLAW-OUTSIDE`]],
      // The node's own processes never pass FORWARD, so what comes here from elsewhere is a foreign machine or bridge.
      ['CLAW-OUTSIDE', [...node.exposeTo.map((range) => `${fromRange(range)}-j RETURN`), '-j DROP']],
      ...dispatch('CLAW-EGRESS', '-i', links, into('egress')),
      ...dispatch('CLAW-INGRESS', '-o', links, into('ingress')),
      // To the node itself. What returns from here meets the operator's own rules.
      ['CLAW-HOST', [CUT, '-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN', NO_SYN, '-j CLAW-HOSTS']],
      ...dispatch('CLAW-HOSTS', '-i', links, into('host')),
      ...policies.chains.map((chain) => [chain.name, chain.rules()] as const),
      ...endsOf(policies.chains),
      // A packet that still carries a VIP was not translated: no such service, port or healthy endpoint.
      [
        'CLAW-INPUT',
        [
          `-i ${OURS} -j CLAW-REJECT`,
          '-i lo -j CLAW-REJECT',
          ...node.exposeTo.map((range) => `${fromRange(range)}-j CLAW-REJECT`),
          '-j DROP',
        ],
      ],
      ...(node.dropForeignForwarding ? [['CLAW-FOREIGN', ['-m conntrack --ctstate NEW -j DROP']] as const] : []),
      // What the node itself sends to a VIP that nobody translated.
      ['CLAW-OUTPUT', [selfTestRule(vips), '-j CLAW-REJECT']],
      ['CLAW-REJECT', ['-p tcp -j REJECT --reject-with tcp-reset', '-j REJECT --reject-with icmp-port-unreachable']],
    ]),
    jumps: [
      { chain: 'FORWARD', rule: '-m comment --comment clawnode -j CLAW-NETPOL', place: 'first' },
      // Docker puts its jumps above ours whenever it starts, DOCKER-USER first of all, and keeps that chain: what stands in it is in force at once.
      { chain: 'DOCKER-USER', rule: '-m comment --comment clawnode -j CLAW-NETPOL', place: 'first', optional: true },
      // Last, so that whatever accepts a connection before it, Docker's rules for one, keeps its say.
      ...(node.dropForeignForwarding ? [{ chain: 'FORWARD', rule: '-m comment --comment clawnode -j CLAW-FOREIGN', place: 'last' } as const] : []),
      { chain: 'INPUT', rule: `-i ${OURS} -m comment --comment clawnode -j CLAW-HOST`, place: 'first' },
      { chain: 'INPUT', rule: `-d ${vips} -m comment --comment clawnode -j CLAW-INPUT`, place: 'first' },
      { chain: 'OUTPUT', rule: `-d ${vips} -m comment --comment clawnode -j CLAW-OUTPUT`, place: 'first' },
    ],
  };
}

/** iptables-save prints no match for a range that holds every address. */
function fromRange(range: Cidr): string {
  return range.endsWith('/0') ? '' : `-s ${range} `;
}

/** The raw table: what comes from a workload's interface must carry that workload's IP and MAC. */
export function compileRaw(links: readonly WorkloadLink[]): TableState {
  return {
    chains: new Map(
      dispatch('CLAW-SPOOF', '-i', links, (link) => `-s ${link.ip}/32 -i ${link.hostInterface} -m mac --mac-source ${link.mac} -j RETURN`),
    ),
    jumps: [{ chain: 'PREROUTING', rule: `-i ${OURS} -m comment --comment clawnode -j CLAW-SPOOF`, place: 'first' }],
  };
}

/**
 * A two-level dispatch by the first hex digit of the interface's id: 16 and some comparisons instead of one per workload.
 * Whatever interface it does not know is dropped.
 */
function dispatch(chain: string, direction: '-i' | '-o', links: readonly WorkloadLink[], rule: (link: WorkloadLink) => string): [string, Rules][] {
  const inOrder = links.toSorted((a, b) => (a.id < b.id ? -1 : 1));
  const byDigit = [...Map.groupBy(inOrder, (link) => link.id.charAt(0))];
  return [
    [chain, [...byDigit.map(([digit]) => `${direction} ${WORKLOAD_INTERFACE_PREFIX}${digit}+ -g ${chain}-${digit}`), '-j DROP']],
    ...byDigit.map(([digit, group]): [string, Rules] => [`${chain}-${digit}`, [...group.map(rule), '-j DROP']]),
  ];
}
