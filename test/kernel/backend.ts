/** Which iptables backend this run of a kernel test file is about: the runner runs some of them once for each. */
import { z } from 'zod';

export const BACKEND = z.enum(['nft', 'legacy']).parse(process.env['CLAWNODE_TEST_BACKEND'] ?? 'nft');
export const IPTABLES = `iptables-${BACKEND}` as const;
