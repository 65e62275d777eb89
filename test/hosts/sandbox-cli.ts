/** `clawnode invoke` of this checkout against the agent of a sandbox, and workloads that answer with their own name. */
import assert from 'node:assert/strict';
import { z } from 'zod';
import type { Sandbox } from '../../src/sandbox/sandbox.ts';
import { clawnode, type Outcome } from '../cli/cli-process.ts';
import { eventually } from '../cli/sandbox-fixture.ts';

export type Answer = Readonly<Record<string, unknown>>;

export interface Served {
  readonly id: string;
  readonly meshIp: string;
  readonly answer: Answer;
}

export interface SandboxCli {
  readonly run: (command: string, params?: object) => Promise<Outcome>;
  /** The answer. Fails the test when the command does. */
  readonly invoke: (command: string, params?: object) => Promise<Answer>;
  /** Runs a workload that answers HTTP with its name, and waits until it listens. */
  readonly serve: (name: string, labels: Readonly<Record<string, string>>, ports: readonly number[]) => Promise<Served>;
}

const SERVER = `
const [name, ...ports] = process.argv.slice(1);
let left = ports.length;
for (const port of ports) require('node:http').createServer((request, response) => response.end(name)).listen(Number(port), () => (left -= 1) || console.log('listening'));`;

export function sandboxCli(sandbox: Sandbox): SandboxCli {
  const run: SandboxCli['run'] = (command, params) =>
    clawnode(['invoke', command, ...(params === undefined ? [] : [JSON.stringify(params)])], { env: { CLAWNODE_SOCKET: sandbox.socketPath } });
  const invoke: SandboxCli['invoke'] = async (command, params) => {
    const { exitCode, stdout, stderr } = await run(command, params);
    assert.equal(exitCode, 0, `${command} ${JSON.stringify(params)}: ${stderr}`);
    return z.record(z.string(), z.unknown()).parse(JSON.parse(stdout));
  };
  const serve: SandboxCli['serve'] = async (name, labels, ports) => {
    const answer = await invoke('workload.run', { name, labels, command: [process.execPath, '-e', SERVER, name, ...ports.map(String)] });
    await eventually(() => invoke('workload.logs', { name }), (seen) => JSON.stringify(seen['lines']).includes('listening'));
    return { ...z.object({ id: z.string(), meshIp: z.string() }).parse(answer), answer };
  };
  return { run, invoke, serve };
}
