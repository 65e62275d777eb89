/** The workload commands: run a process or container with an IP of its own, or give one to what runs already. */
import { z } from 'zod';
import { labels } from '../src/model/name.ts';
import { restartPolicy, workloadPort } from '../src/model/workload.ts';
import { defineTool, enforcement, type Tool } from './define.ts';
import { named, outNamed, paged, paging } from './shared.ts';

const ports = z.array(workloadPort).max(64).describe('Ports that services can name');
const argument = z.string().refine((text) => !text.includes('\0'), { error: 'an argument holds no NUL' });
const variable = z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, { error: 'a variable name is letters, digits and "_", not starting with a digit' });

const notYet = {
  dryRun: 'Leave it out.',
};

export const runWorkloadInput = z.strictObject({
  ...named,
  labels: labels.default({}),
  command: z
    .array(argument)
    .min(1)
    .max(256)
    .refine(([program]) => program !== '', { error: 'the program has no name', path: [0] })
    .optional()
    .describe('Program and arguments; no shell'),
  image: z.string().min(1).max(500).optional().describe('Container image, present on the node'),
  env: z.record(variable, argument).default({}),
  ports: ports.default([]),
  runtime: z.enum(['process', 'docker']).optional(),
  restart: restartPolicy.default('no'),
});
export type RunWorkload = z.output<typeof runWorkloadInput>;

export const attachWorkloadInput = z.strictObject({
  ...named,
  labels: labels.default({}),
  ports: ports.default([]),
  netns: z
    .string()
    // Only root can make names there: no link, pid or mount of a caller's own stands behind one.
    .regex(/^(?:\/var)?\/run\/netns\/(?!claw-[0-9a-f]{8}$)[^/\0]{1,200}$/, { error: 'a network namespace is /run/netns/NAME, and none of ours' })
    .refine((path) => !/\/\.{1,2}$/.test(path), { error: 'a network namespace is /run/netns/NAME' })
    .optional()
    .describe('/run/netns/NAME'),
  container: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,200}$/, { error: 'a container is named by its id or name' })
    .optional()
    .describe('Id or name of a running Docker container'),
});
export type AttachWorkload = z.output<typeof attachWorkloadInput>;

export const updateWorkloadInput = z.strictObject({ ...named, labels: labels.nullish(), ports: ports.nullish() });
export type UpdateWorkload = z.output<typeof updateWorkloadInput>;

const shown = {
  id: z.string().describe('Also the containerId of its endpoints'),
  ...outNamed,
  labels: z.record(z.string(), z.string()),
  runtime: z.string(),
  state: z.enum(['starting', 'running', 'restarting', 'exited', 'failed', 'stopping']).describe('failed: could not be started'),
  exitCode: z.int().optional().describe('128 + n after signal n'),
  message: z.string().optional().describe('Why it failed'),
  restarts: z.int().describe('How often its restart policy started it again'),
  meshIp: z.string().describe('Its IP'),
  network: z.literal('claw-mesh'),
  subnet: z.string().describe('The workload subnet of its node'),
  gateway: z.string(),
  ports: z.array(z.object({ name: z.string().optional(), port: z.int(), protocol: z.string() })),
  node: z.string(),
  createdAt: z.string(),
};
const one = z.object({ ...shown, ...enforcement });
const stopped = z.object({ ...outNamed, stopped: z.literal(true), released: z.string().describe('The IP'), ...enforcement });

export const workloadTools: readonly Tool[] = [
  defineTool({
    command: 'workload.run',
    title: 'Run a workload',
    description: 'Start a command or container with its own IP; services with matching selectors pick it up.',
    toolset: 'workloads',
    inDefault: true,
    effect: 'write',
    idempotent: false,
    input: runWorkloadInput,
    output: one,
    notYet,
    handle: (managers, input, signal) => managers.workloads.run(input, signal),
  }),
  defineTool({
    command: 'workload.get',
    title: 'Get a workload',
    description: 'One workload: IP, labels, ports, state, exit code, and why it failed.',
    toolset: 'workloads',
    effect: 'read',
    idempotent: true,
    input: z.strictObject(named),
    output: one,
    handle: (managers, input) => managers.workloads.get(input),
  }),
  defineTool({
    command: 'workload.list',
    title: 'List workloads',
    description: 'All workloads with their IPs, labels, ports and states.',
    toolset: 'workloads',
    inDefault: true,
    effect: 'read',
    idempotent: true,
    input: z.strictObject(paging),
    output: z.object({ ...paged, workloads: z.array(z.object(shown)) }),
    handle: (managers, input) => managers.workloads.list(input),
  }),
  defineTool({
    command: 'workload.logs',
    title: 'Logs of a workload',
    description: 'The last lines that a workload printed.',
    toolset: 'workloads',
    inDefault: true,
    effect: 'read',
    idempotent: true,
    input: z.strictObject({ ...named, tail: z.int().min(1).max(1000).default(100).describe('Number of lines') }),
    output: z.object({ ...outNamed, lines: z.array(z.string()).describe('Oldest first; stdout and stderr together') }),
    handle: (managers, input, signal) => managers.workloads.logs(input, signal),
  }),
  defineTool({
    command: 'workload.update',
    title: 'Update a workload',
    description: 'Change labels or ports of a running workload; services follow, the process is not touched.',
    toolset: 'workloads',
    effect: 'replace',
    idempotent: true,
    input: updateWorkloadInput,
    output: one,
    notYet,
    handle: (managers, input) => managers.workloads.update(input),
  }),
  defineTool({
    command: 'workload.stop',
    title: 'Stop a workload',
    description: 'Stop and remove a workload: first out of its services, then its process or container ends and its IP is released.',
    toolset: 'workloads',
    inDefault: true,
    effect: 'destroy',
    idempotent: false,
    input: z.strictObject(named),
    output: stopped,
    handle: (managers, input, signal) => managers.workloads.stop(input, signal),
  }),
  defineTool({
    command: 'workload.attach',
    title: 'Attach a workload',
    description: 'Give a container or network namespace that runs already an IP; services pick it up like any workload.',
    toolset: 'workloads',
    effect: 'write',
    idempotent: false,
    input: attachWorkloadInput,
    output: one,
    notYet,
    handle: (managers, input, signal) => managers.workloads.attach(input, signal),
  }),
  defineTool({
    command: 'workload.detach',
    title: 'Detach a workload',
    description: 'Undo workload.attach: no service sends there any more, the IP is taken back, what was attached runs on.',
    toolset: 'workloads',
    effect: 'destroy',
    idempotent: false,
    input: z.strictObject(named),
    output: stopped,
    handle: (managers, input, signal) => managers.workloads.detach(input, signal),
  }),
];
