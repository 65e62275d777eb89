/** The rule by which the node proves to itself that what the kernel logs is read. Pure. */
import type { Cidr } from '../model/address.ts';
import { NFLOG_GROUP, NFLOG_PREFIXES, selfTestAddress, SELF_TEST_PORT } from '../model/flow.ts';

/**
 * Stands in CLAW-OUTPUT, which only packets reach that the node sends to virtual IPs and nobody translated. Only root's are logged, so that no
 * other user of the machine can flood the log; the kernel takes that match only where OUTPUT alone leads.
 */
export function selfTestRule(clusterIpRange: Cidr): string {
  return `-d ${selfTestAddress(clusterIpRange)}/32 -p udp -m udp --dport ${SELF_TEST_PORT} -m owner --uid-owner 0 -j NFLOG --nflog-prefix "${NFLOG_PREFIXES.selfTest}" --nflog-group ${NFLOG_GROUP}`;
}
