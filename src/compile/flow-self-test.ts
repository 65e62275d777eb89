/** The rule by which the node proves to itself that what the kernel logs is read. Pure. */
import type { Cidr } from '../model/address.ts';
import { NFLOG_GROUP, NFLOG_PREFIXES, selfTestAddress, SELF_TEST_PORT } from '../model/flow.ts';

/**
 * Stands first in CLAW-REJECT, which only packets to virtual IPs reach that nobody translated. `-o lo`: what the node sends, never what comes
 * from a workload; and only root, so that no other user of the machine can flood the log.
 */
export function selfTestRule(clusterIpRange: Cidr): string {
  return `-d ${selfTestAddress(clusterIpRange)}/32 -o lo -p udp -m udp --dport ${SELF_TEST_PORT} -m owner --uid-owner 0 -j NFLOG --nflog-prefix "${NFLOG_PREFIXES.selfTest}" --nflog-group ${NFLOG_GROUP}`;
}
