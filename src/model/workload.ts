/** A workload: a command, a container or an attached network namespace with an IP of its own; imports nothing local but its parts. */
import { z } from 'zod';
import { ipv4, port } from './address.ts';
import { labels, name, portName } from './name.ts';
import { policyProtocol } from './policy.ts';
import { recordBase } from './record.ts';

export const workloadPort = z.strictObject({
  name: portName.optional(),
  port,
  /** Services know no SCTP, policies do. */
  protocol: policyProtocol.default('tcp'),
});
export type WorkloadPort = z.infer<typeof workloadPort>;

export const restartPolicy = z.enum(['no', 'always']);

/** Eight hex digits: part of the interface, network namespace and directory names of the workload. */
export const workloadId = z.string().regex(/^[0-9a-f]{8}$/);

export const workload = recordBase.extend({
  id: workloadId,
  namespace: name,
  name,
  labels,
  /** Empty for a container that runs what its image says, and for what was attached. */
  command: z.array(z.string()),
  env: z.record(z.string(), z.string()),
  ports: z.array(workloadPort),
  /** `attached`: not started by us; its network namespace or container is somebody else's. */
  runtime: z.enum(['process', 'docker', 'attached']),
  /** With runtime `docker`. */
  image: z.string().optional(),
  /** With runtime `attached`, one of the two: a path below /run/netns, or a container's full id. */
  netns: z.string().optional(),
  container: z.string().optional(),
  restart: restartPolicy,
  ip: ipv4,
  node: z.string(),
  /** Set when `workload.stop` was asked: it takes no new traffic, and its address is released once its process is gone. */
  stopping: z.boolean(),
});
export type Workload = z.infer<typeof workload>;

/** What the runtime observes of a workload; `failed` means that it could not be started, `message` says why. */
export const workloadState = z.enum(['starting', 'running', 'restarting', 'exited', 'failed', 'stopping']);
export type WorkloadState = z.infer<typeof workloadState>;
