/** Settles in which iptables backend our rules are, tells why, and takes them out of where they must not be; it decides nothing about rules. */
import type { Logger } from 'pino';
import { BACKENDS, chooseBackend, inspectBackend, type BackendWish } from './drivers/iptables-backend.ts';
import type { IptablesBackend } from './drivers/iptables-save.ts';
import { openIptables } from './drivers/iptables.ts';
import type { ClawError } from './errors.ts';

/** Throws what `chooseBackend` throws. When it resolves, the other backend holds nothing of ours. */
export async function settleBackend(wish: BackendWish, { logger, signal }: { logger: Logger; signal: AbortSignal }): Promise<IptablesBackend> {
  const { backend, reason, leftIn, mixed } = await chooseBackend(wish, signal);
  logger.info({ backend, reason }, `rules are kept in iptables-${backend}: ${reason}`);
  if (mixed) logger.warn('both iptables-nft and iptables-legacy hold rules of others: every packet meets both, and ours are in one of them');
  if (leftIn !== undefined) {
    const lines = await removeFrom(leftIn, signal);
    logger.warn({ lines }, `chains of ours were in iptables-${leftIn} too and are removed there`);
  }
  return backend;
}

/**
 * Removes all chains and jumps of ours wherever they are, and resolves with the number of lines that took. Throws when one
 * backend can not be looked into and nothing of ours was in the other: it is never in both.
 */
export async function removeFromBackends(signal: AbortSignal): Promise<number> {
  let lines = 0;
  let unseen: ClawError | undefined;
  for (const backend of BACKENDS) {
    const contents = await inspectBackend(backend, signal);
    if (contents.obstacle === undefined) lines += await removeFrom(backend, signal);
    else if (!contents.absent) unseen = contents.obstacle;
  }
  if (unseen !== undefined && lines === 0) throw unseen;
  return lines;
}

async function removeFrom(backend: IptablesBackend, signal: AbortSignal): Promise<number> {
  const iptables = openIptables({ backend });
  try {
    return (await iptables.removeAll(signal)).written;
  } finally {
    await iptables.close();
  }
}
