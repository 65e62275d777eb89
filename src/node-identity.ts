/** Who this node is: name, number and ranges, checked against what the machine uses, and kept as long as anything of it is stored. */
import { readFile, rename, writeFile } from 'node:fs/promises';
import { z } from 'zod';
import type { Config } from './config.ts';
import type { IptablesBackend } from './drivers/iptables-save.ts';
import { isForwarding, turnForwardingOff } from './drivers/node-network.ts';
import { foreignForwardingIsClosed, systemAddressesAndRoutes, underlayMtu } from './drivers/system-network.ts';
import { ClawError } from './errors.ts';
import { name } from './model/name.ts';
import { ranges, type Node } from './model/node.ts';
import { nodeName, nodePlace, refuseOverlap } from './node-plan.ts';

/** What WireGuard adds to a packet: 20 or 40 bytes of IP, 8 of UDP, 32 of its own. */
const WIREGUARD_OVERHEAD = 80;

const identity = z.strictObject({
  v: z.literal(1),
  id: name,
  number: z.int(),
  ranges,
  /** Whether the machine forwarded before an agent came, since it was booted. Gone after a cleanup. */
  forwarding: z.strictObject({ boot: z.string(), before: z.boolean() }).optional(),
});
type Identity = z.infer<typeof identity>;

export interface NodeOptions {
  readonly config: Config;
  /** Where the rules of an agent before this one would be. */
  readonly backend: IptablesBackend;
  /** From the command line; before the configuration's. */
  readonly nodeId: string | undefined;
  /** Where the identity is kept. */
  readonly file: string;
  /** Whether the store holds objects that were placed with the kept identity. */
  readonly isInUse: boolean;
}

/**
 * Throws RANGE_OVERLAP when one of our ranges is in use already, and CONFIG_INVALID for an impossible name or subnet, or for
 * one that would leave stored addresses without their node.
 */
export async function openNode(options: NodeOptions, signal: AbortSignal): Promise<Node> {
  const { config, backend, file } = options;
  const kept = await readIdentity(file);
  const wanted: Identity = {
    v: 1,
    // A host that was renamed is still the same node.
    id: nodeName(options.nodeId, config.nodeId, kept?.id),
    number: config.nodeNumber,
    ranges: config.ranges,
    forwarding: await forwardingBefore({ kept, backend }, signal),
  };
  if (kept !== undefined && options.isInUse) refuseChange(kept, wanted);
  const place = nodePlace(wanted.ranges, wanted.number);
  refuseOverlap(wanted.ranges, await systemAddressesAndRoutes(signal));
  await writeIdentity(file, wanted);
  return {
    id: wanted.id,
    number: wanted.number,
    ranges: wanted.ranges,
    ...place,
    mtu: (await underlayMtu(signal)) - WIREGUARD_OVERHEAD,
    exposeTo: config.exposeTo,
    dropForeignForwarding: wanted.forwarding?.before === false && !config.routeForeign,
  };
}

/** Turns forwarding off if it was off before the agent turned it on, and forgets that. False when there was nothing to do. */
export async function restoreForwarding(file: string): Promise<boolean> {
  const kept = await readIdentity(file);
  if (kept === undefined) return false;
  const { forwarding, ...rest } = kept;
  await writeIdentity(file, rest);
  if (forwarding?.before !== false || forwarding.boot !== (await bootId()) || !(await isForwarding())) return false;
  await turnForwardingOff();
  return true;
}

/** As it was kept, unless the machine was booted since; where nothing was kept, a rule of ours tells that it was off. */
async function forwardingBefore({ kept, backend }: { kept: Identity | undefined; backend: IptablesBackend }, signal: AbortSignal): Promise<Identity['forwarding']> {
  const boot = await bootId();
  if (kept?.forwarding?.boot === boot) return kept.forwarding;
  return { boot, before: (await isForwarding()) && !(await foreignForwardingIsClosed(backend, signal)) };
}

async function bootId(): Promise<string> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
}

async function readIdentity(file: string): Promise<Identity | undefined> {
  try {
    return identity.parse(JSON.parse(await readFile(file, 'utf8')));
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw new ClawError('STORE_FAILED', `${file} can not be read`, { cause: error, hint: 'It says who this node is. Restore it from a backup, or start with an empty state directory.' });
  }
}

/** Written to a new name and moved, so that it is never half there. */
async function writeIdentity(file: string, wanted: Identity): Promise<void> {
  await writeFile(`${file}.new`, `${JSON.stringify(wanted, undefined, 2)}\n`, { mode: 0o600, flush: true });
  await rename(`${file}.new`, file);
}

function refuseChange(kept: Identity, wanted: Identity): void {
  const changes: readonly (readonly [path: string, before: string, after: string])[] = [
    ['nodeId', kept.id, wanted.id],
    ['nodeNumber', String(kept.number), String(wanted.number)],
    ['ranges.clusterIp', kept.ranges.clusterIp, wanted.ranges.clusterIp],
    ['ranges.workload', kept.ranges.workload, wanted.ranges.workload],
  ];
  for (const [path, before, after] of changes) {
    if (before === after) continue;
    throw new ClawError('CONFIG_INVALID', `${path} can not change from ${before} to ${after} while services or workloads hold addresses`, {
      path,
      hint: `Keep ${before}, or delete all services and stop all workloads first.`,
    });
  }
}
