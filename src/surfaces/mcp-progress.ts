/** Tells a client that its call is still at work, about once a second, and what it waits for. It measures nothing but time. */
import { findTool } from '../../tools/index.ts';
import type { ToolCall } from './mcp-tools.ts';

/** The seconds that have passed, so it grows with each; how many there will be is not known. */
export interface Progress {
  readonly progress: number;
  readonly message: string;
}

const EVERY_MS = 1_000;

/** The call's own outcome. One that ends within a second tells of no progress, and none is told after its end. */
export async function withProgress<Answer>(call: ToolCall, tell: (progress: Progress) => Promise<void>, run: () => Promise<Answer>): Promise<Answer> {
  const message = waitsFor(call);
  let seconds = 0;
  let telling = false;
  const timer = setInterval(() => {
    seconds += EVERY_MS / 1_000;
    // A client that does not read is not told more than it has taken.
    if (telling) return;
    telling = true;
    // Where it can not be told, the answer can not be given either, and that is found out then.
    void tell({ progress: seconds, message }).catch(() => undefined).finally(() => (telling = false));
  }, EVERY_MS);
  try {
    return await run();
  } finally {
    clearInterval(timer);
  }
}

/** What a call that takes longer than a second is waiting for by then. */
export function waitsFor({ name }: ToolCall): string {
  const tool = findTool(name);
  const known = tool === undefined ? undefined : WAITS[tool.command];
  if (known !== undefined) return known;
  return tool === undefined || tool.effect === 'read' ? 'waiting for the agent to answer' : 'waiting for the kernel to be programmed';
}

/** Of commands that wait for something else than the kernel's rules. */
const WAITS: Readonly<Record<string, string>> = {
  'workload.stop': 'waiting for open connections to end, as long as drainSeconds of its services allows, and for the workload to stop',
  'workload.detach': 'waiting for open connections to end, as long as drainSeconds of its services allows',
  'workload.run': 'waiting for the workload to start and for the kernel to be programmed',
  'workload.attach': 'waiting for the workload to be connected and for the kernel to be programmed',
  'network.probe': 'waiting for an answer to the connection that was tried',
  'network.simulate': 'working out who reaches whom',
  'network.apply': 'storing the objects of the manifest and waiting for the kernel to be programmed',
  'ingress.create': 'waiting for the ingress proxy to serve it',
  'ingress.update': 'waiting for the ingress proxy to serve it',
  'ingress.delete': 'waiting for the ingress proxy to let go of it',
};
