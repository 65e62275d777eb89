/** Every kind of bad input by `clawnode invoke`, inside `clawnode sandbox`: prints what came back and whether anything changed. */
import { z } from 'zod';
import { run } from '../../src/drivers/exec.ts';
import { anything, invoke, invokeRaw } from './fixture-invoke.ts';

/** What is there before, so that a refused change of it would show. */
const PRESENT = [
  ['workload.run', { name: 'sleeper', labels: { app: 'web' }, command: ['sleep', '1000'] }],
  ['service.create', { name: 'web', selector: { app: 'web' }, port: 80 }],
  ['service.create', { name: 'fixed', endpoints: [{ ip: '192.0.2.1' }], port: 81 }],
  ['ingress.create', { name: 'front', rules: [{ host: 'www.example.com', service: 'web' }] }],
] as const;

const service = { name: 'new', port: 80 };
const workload = { name: 'new', command: ['true'] };
const ingress = { name: 'new', rules: [{ host: 'a.example.com', path: '/', service: 'web' }] };
const long = 'a'.repeat(64);

/** Command, parameters, and the code and path that are expected; no path where no argument is at fault. */
export const BAD: readonly (readonly [command: string, params: unknown, code: string, path?: string])[] = [
  ['service.explode', {}, 'UNKNOWN_COMMAND', 'command'],
  ['', {}, 'UNKNOWN_COMMAND', 'command'],
  ['service.create', '{"name":', 'INVALID_ARGUMENT'],
  ['service.create', '[]', 'INVALID_ARGUMENT'],
  ['service.create', '"web"', 'INVALID_ARGUMENT'],
  ['service.create', 'null', 'INVALID_ARGUMENT', 'name'],
  ['service.create', { port: 80 }, 'INVALID_ARGUMENT', 'name'],
  ['service.create', { name: 7, port: 80 }, 'INVALID_ARGUMENT', 'name'],
  ['service.create', { name: 'Web', port: 80 }, 'INVALID_ARGUMENT', 'name'],
  ['service.create', { name: '../web', port: 80 }, 'INVALID_ARGUMENT', 'name'],
  ['service.create', { name: long, port: 80 }, 'INVALID_ARGUMENT', 'name'],
  ['service.create', { ...service, namespace: 'a/b' }, 'INVALID_ARGUMENT', 'namespace'],
  ['service.create', { name: 'new' }, 'INVALID_ARGUMENT', 'port'],
  ['service.create', { ...service, port: 0 }, 'INVALID_ARGUMENT', 'port'],
  ['service.create', { ...service, port: 65_536 }, 'INVALID_ARGUMENT', 'port'],
  ['service.create', { ...service, port: '80' }, 'INVALID_ARGUMENT', 'port'],
  ['service.create', { ...service, port: 80.5 }, 'INVALID_ARGUMENT', 'port'],
  ['service.create', { ...service, protocol: 'sctp' }, 'INVALID_ARGUMENT', 'protocol'],
  ['service.create', { ...service, targetPort: 'NO' }, 'INVALID_ARGUMENT', 'targetPort'],
  ['service.create', { ...service, selector: { app: 'a b' } }, 'INVALID_ARGUMENT', 'selector.app'],
  ['service.create', { ...service, selector: ['app'] }, 'INVALID_ARGUMENT', 'selector'],
  ['service.create', { ...service, colour: 'red' }, 'INVALID_ARGUMENT', 'colour'],
  ['service.create', { name: 'new', ports: [] }, 'INVALID_ARGUMENT', 'ports'],
  ['service.create', { name: 'new', ports: [{ port: 80 }, { port: 81 }] }, 'INVALID_ARGUMENT', 'ports[0].name'],
  ['service.create', { name: 'new', ports: [{ name: 'a', port: 80 }, { name: 'b', port: 80 }] }, 'INVALID_ARGUMENT', 'ports[1].port'],
  ['service.create', { ...service, ports: [{ port: 80 }] }, 'INVALID_ARGUMENT', 'ports'],
  ['service.create', { ...service, ports: [{ port: 80, extra: 1 }] }, 'INVALID_ARGUMENT', 'ports[0].extra'],
  ['service.create', { ...service, selector: { app: 'web' }, endpoints: [{ ip: '192.0.2.9' }] }, 'INVALID_ARGUMENT', 'endpoints'],
  ['service.create', { ...service, endpoints: [{ ip: '127.0.0.1' }] }, 'INVALID_ARGUMENT', 'endpoints[0].ip'],
  ['service.create', { ...service, endpoints: [{ ip: '192.0.2.9' }, { ip: '169.254.169.254' }] }, 'INVALID_ARGUMENT', 'endpoints[1].ip'],
  ['service.create', { ...service, endpoints: [{ ip: '10.201.0.1' }] }, 'INVALID_ARGUMENT', 'endpoints[0].ip'],
  ['service.create', { ...service, endpoints: [{ ip: '192.0.2.999' }] }, 'INVALID_ARGUMENT', 'endpoints[0].ip'],
  ['service.create', { ...service, sessionAffinity: { type: 'cookie' } }, 'INVALID_ARGUMENT', 'sessionAffinity.type'],
  ['service.create', { ...service, protocol: 'udp', healthCheck: { type: 'tcp' } }, 'INVALID_ARGUMENT', 'healthCheck'],
  ['service.create', { ...service, drainSeconds: 3601 }, 'INVALID_ARGUMENT', 'drainSeconds'],
  ['service.create', { ...service, dryRun: true }, 'NOT_SUPPORTED', 'dryRun'],
  ['service.create', { name: 'web', port: 80 }, 'SERVICE_EXISTS', 'name'],
  ['service.update', { name: 'web', port: 70_000 }, 'INVALID_ARGUMENT', 'port'],
  ['service.update', { name: 'web', endpoints: [{ ip: '192.0.2.9' }] }, 'INVALID_ARGUMENT', 'endpoints'],
  ['service.update', { name: 'absent', port: 81 }, 'SERVICE_NOT_FOUND', 'name'],
  ['service.get', { name: 'absent' }, 'SERVICE_NOT_FOUND', 'name'],
  ['service.endpoints', { name: 'absent' }, 'SERVICE_NOT_FOUND', 'name'],
  ['service.delete', { name: 'absent' }, 'SERVICE_NOT_FOUND', 'name'],
  ['service.delete', { name: 'web', namespace: 'elsewhere' }, 'SERVICE_NOT_FOUND', 'name'],
  ['service.list', { limit: 0 }, 'INVALID_ARGUMENT', 'limit'],
  ['workload.run', { name: 'new' }, 'INVALID_ARGUMENT', 'command'],
  ['workload.run', { ...workload, command: [] }, 'INVALID_ARGUMENT', 'command'],
  ['workload.run', { ...workload, command: 'true' }, 'INVALID_ARGUMENT', 'command'],
  ['workload.run', { ...workload, command: ['tr\0ue'] }, 'INVALID_ARGUMENT', 'command[0]'],
  ['workload.run', { ...workload, env: { '1A': 'x' } }, 'INVALID_ARGUMENT', 'env.1A'],
  ['workload.run', { ...workload, restart: 'sometimes' }, 'INVALID_ARGUMENT', 'restart'],
  ['workload.run', { name: 'new', image: 'busybox' }, 'NOT_SUPPORTED', 'image'],
  ['workload.run', { ...workload, runtime: 'docker' }, 'NOT_SUPPORTED', 'runtime'],
  ['workload.run', { ...workload, name: 'sleeper' }, 'WORKLOAD_EXISTS', 'name'],
  ['workload.stop', { name: 'absent' }, 'WORKLOAD_NOT_FOUND', 'name'],
  ['workload.logs', { name: 'sleeper', tail: 0 }, 'INVALID_ARGUMENT', 'tail'],
  ['ingress.create', { name: 'new', rules: [] }, 'INVALID_ARGUMENT', 'rules'],
  ['ingress.create', { name: 'new', rules: [{ host: 'a b', service: 'web' }] }, 'INVALID_ARGUMENT', 'rules[0].host'],
  ['ingress.create', { name: 'new', rules: [{ host: 'a.example.com', path: 'x', service: 'web' }] }, 'INVALID_ARGUMENT', 'rules[0].path'],
  ['ingress.create', { name: 'new', rules: [{ host: 'a.example.com', path: '/../x', service: 'web' }] }, 'INVALID_ARGUMENT', 'rules[0].path'],
  ['ingress.create', { name: 'new', rules: [{ host: 'a.example.com' }] }, 'INVALID_ARGUMENT', 'rules[0].service'],
  ['ingress.create', { ...ingress, name: 'front' }, 'INGRESS_EXISTS', 'name'],
  ['ingress.delete', { name: 'absent' }, 'INGRESS_NOT_FOUND', 'name'],
  ['namespace.delete', { name: 'absent' }, 'NAMESPACE_NOT_FOUND', 'name'],
  ['namespace.delete', { name: 'default' }, 'NAMESPACE_NOT_EMPTY', 'name'],
];

const reply = z.object({ exitCode: z.int().nullable(), stdout: z.string(), stderr: z.string() });
export const refusals = z.object({ replies: z.array(reply), before: z.array(z.unknown()), after: z.array(z.unknown()) });

if (import.meta.main) {
  for (const [command, params] of PRESENT) await invoke(anything, command, params);
  const before = await everything();
  const replies = [];
  for (const [command, params] of BAD) replies.push(await invokeRaw(command, params));
  process.stdout.write(`${JSON.stringify({ replies, before, after: await everything() })}\n`);
}

/** What a change would show in: the state as the commands tell it, with the store's revision, and the kernel. */
async function everything(): Promise<unknown[]> {
  const told = ['network.status', 'service.list', 'workload.list', 'ingress.list', 'namespace.list'].map((command) => invoke(anything, command));
  const held = [['iptables-save'], ['ipset', 'save'], ['ip', 'netns']] as const;
  // The lines that begin with # hold the time.
  const kernel = held.map(async (argv) => (await run(argv)).stdout.replaceAll(/^#.*\n/gm, ''));
  return [...(await Promise.all(told)), ...(await Promise.all(kernel))];
}
