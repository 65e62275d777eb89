/** `clawnode invoke` as a script uses it, and the workloads that the end-to-end tests run by it. It talks to the agent in no other way. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { clawnode, type Outcome } from '../cli/cli-process.ts';
import { ask } from './fixture-requests.ts';

export const SERVED_PORT = 8080;

/** One call to its end, whatever comes of it. A text is given as it is, anything else as JSON. */
export function invokeRaw(command: string, params: unknown = {}): Promise<Outcome> {
  return clawnode(['invoke', command, typeof params === 'string' ? params : JSON.stringify(params)]);
}

/** The answer. Throws with what the command printed when it fails, or prints anything but its answer. */
export async function invoke<Answer>(answer: z.ZodType<Answer>, command: string, params: unknown = {}): Promise<Answer> {
  const { exitCode, stdout, stderr } = await invokeRaw(command, params);
  if (exitCode !== 0 || stderr !== '') throw new Error(`${command} ${JSON.stringify(params)} ended with ${exitCode}: ${stderr}`);
  return answer.parse(JSON.parse(stdout));
}

export const anything = z.looseObject({});
export const workloadAnswer = z.looseObject({ id: z.string(), name: z.string(), meshIp: z.string(), state: z.string(), enforced: z.boolean() });

/** Runs a workload that answers every HTTP request on port 8080 with its own name. */
export function runWebWorkload(name: string, labels: Readonly<Record<string, string>>): Promise<z.output<typeof workloadAnswer>> {
  const program = `require('http').createServer((request, response) => response.end('${name}')).listen(${SERVED_PORT})`;
  return invoke(workloadAnswer, 'workload.run', { name, labels, command: [process.execPath, '-e', program] });
}

/** Waits until it answers itself, without any service: a workload runs before its program listens. Throws after 10 s. */
export async function answering(ip: string, { speaksHttp = true }: { speaksHttp?: boolean } = {}): Promise<void> {
  for (let attempt = 0; ; attempt += 1) {
    try {
      await (speaksHttp ? ask({ host: ip, port: SERVED_PORT }) : accepts(ip));
      return;
    } catch (error) {
      if (attempt === 400) throw error;
      await delay(25);
    }
  }
}

async function accepts(ip: string): Promise<void> {
  const socket = connect({ host: ip, port: SERVED_PORT });
  try {
    await once(socket, 'connect');
  } finally {
    socket.destroy();
  }
}

/** The one line that a workload printed, once it is there. Throws after 20 s. */
export async function printedBy(name: string): Promise<string> {
  for (let attempt = 0; attempt < 40; attempt += 1) {
    const [line] = (await invoke(z.looseObject({ lines: z.array(z.string()) }), 'workload.logs', { name })).lines;
    if (line !== undefined) return line;
    await delay(250);
  }
  throw new Error(`workload ${name} printed nothing in time`);
}
