/** How denied and audited connections are told by the kernel; imports nothing local. */

/** The netfilter log group of our rules. */
export const NFLOG_GROUP = 200;
