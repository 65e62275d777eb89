/** The agent's configuration file (YAML): its schema and how it is read. All fields have defaults. */
import { readFile } from 'node:fs/promises';
import { parse } from 'yaml';
import { z } from 'zod';
import { ClawError } from './errors.ts';
import { cidr, port } from './model/address.ts';
import { name } from './model/name.ts';
import { ranges } from './model/node.ts';

export const configSchema = z.strictObject({
  nodeId: name.optional().describe('Name of this node; the host name when left out'),
  nodeNumber: z.int().min(1).max(255).default(1).describe('Third octet of the workload subnet'),
  ranges: ranges.prefault({}),
  exposeTo: z.array(cidr).default([]).describe('Source ranges outside this node that may open connections to workloads and virtual IPs'),
  ingress: z.strictObject({ port: port.prefault(8443), uid: z.int().min(1).default(64_180).describe('User id of the proxy in host mode') }).prefault({}),
  workloads: z
    .strictObject({
      process: z
        .strictObject({
          enabled: z.boolean().default(false).describe('Let workload.run start processes on the host'),
          uid: z.int().min(1).optional().describe('User id that they run as'),
        })
        .prefault({}),
      docker: z
        .strictObject({
          enabled: z.boolean().default(false).describe('Let workload.run start containers on the host, and workload.attach take running ones'),
          socket: z.string().startsWith('/').default('/var/run/docker.sock').describe("The Docker Engine's unix socket"),
        })
        .prefault({}),
    })
    .prefault({}),
  routeForeign: z
    .boolean()
    .default(false)
    .describe('Let this machine route between foreign networks, although forwarding was off before the agent turned it on'),
  flows: z.strictObject({ uid: z.int().min(1).default(64_181).describe('User id of ulogd, which reads the log of denied connections, in host mode') }).prefault({}),
  metrics: z
    .strictObject({
      enabled: z.boolean().default(true).describe('Serve figures for Prometheus on http://127.0.0.1:PORT/metrics'),
      port: port.prefault(10_201).describe('Port on 127.0.0.1'),
    })
    .prefault({}),
  iptablesBackend: z
    .enum(['auto', 'nft', 'legacy'])
    .default('auto')
    .describe('Where rules are kept; auto: where this machine has its rules, nft in a sandbox. It changes only after a cleanup'),
  limits: z
    .strictObject({
      concurrentCalls: z.int().min(1).max(10_000).default(500).describe('So many calls, of all callers together, are worked on at once; more are refused with LIMIT_EXCEEDED'),
      changesPerSecond: z.int().min(1).max(100_000).default(2_000).describe('So many changes a second, after a burst of five times as many; more are refused with LIMIT_EXCEEDED'),
    })
    .prefault({}),
  socketGroup: z.string().regex(/^[A-Za-z_][\w-]{0,30}$/, 'is no name of a group').default('clawnode').describe("Group whose members may use the agent's socket, if it exists"),
});
export type Config = z.output<typeof configSchema>;

/** Throws CONFIG_INVALID with the path of the wrong field. Without a file, all defaults. */
export async function readConfig(file: string | undefined): Promise<Config> {
  const result = configSchema.safeParse(file === undefined ? {} : await readYaml(file));
  if (result.success) {
    const { enabled, uid } = result.data.workloads.process;
    if (enabled && uid === undefined) {
      throw new ClawError('CONFIG_INVALID', 'workloads.process.enabled needs a uid that the processes run as', {
        path: 'workloads.process.uid',
        hint: 'Give the numeric id of a user that owns nothing else.',
      });
    }
    return result.data;
  }
  const [issue] = result.error.issues;
  // Zod's path ends at the object that holds the unknown field.
  const unknown = issue?.code === 'unrecognized_keys' ? issue.keys[0] : undefined;
  const path = [...(issue?.path ?? []), ...(unknown === undefined ? [] : [unknown])].join('.');
  const words = unknown === undefined ? (issue?.message ?? 'wrong') : 'there is no such field';
  throw new ClawError('CONFIG_INVALID', `${file ?? 'the configuration'}: ${path === '' ? '' : `${path}: `}${words}`, {
    ...(path === '' ? {} : { path }),
    hint: 'docs/configuration.md lists all fields.',
    cause: result.error,
  });
}

async function readYaml(file: string): Promise<unknown> {
  const text = await readText(file);
  try {
    const parsed: unknown = parse(text);
    return parsed ?? {};
  } catch (error) {
    // What follows the first line is a drawing of the place, which the line names too.
    const [reason = ''] = String(error instanceof Error ? error.message : error).split('\n', 1);
    throw new ClawError('CONFIG_INVALID', `${file} is not YAML: ${reason.replace(/:$/, '')}`, { hint: 'docs/configuration.md shows an example.', cause: error });
  }
}

async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    throw new ClawError('CONFIG_INVALID', `${file} can not be read: ${error instanceof Error ? error.message : String(error)}`, {
      hint: 'Give the path of a YAML file.',
      cause: error,
    });
  }
}
