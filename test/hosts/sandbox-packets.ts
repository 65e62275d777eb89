/** Packets inside a sandbox and through its ingress, for tests that do not take the agent's word for what passes. */
import { join } from 'node:path';
import type { Sandbox } from '../../src/sandbox/sandbox.ts';
import { checkout, runInside } from '../cli/sandbox-fixture.ts';
import { askMany, spread, type Spread } from '../e2e/fixture-requests.ts';

const CLIENT = join(checkout, 'test', 'e2e', 'fixture-requests.ts');
const REQUESTS = { count: 60, parallel: 4 };

/** 60 requests from the sandbox's node, each a connection of its own. */
export async function spreadInside(sandbox: Sandbox, to: { host: string; port: number }): Promise<Spread> {
  const { stdout } = await runInside(sandbox, [process.execPath, CLIENT, JSON.stringify({ ...to, ...REQUESTS })]);
  return spread.parse(JSON.parse(stdout));
}

/** The same from outside, through the published ingress. */
export function spreadOutside(sandbox: Sandbox, hostHeader: string): Promise<Spread> {
  return askMany({ host: '127.0.0.1', port: Number(new URL(sandbox.ingressUrl).port), hostHeader }, REQUESTS);
}

const CONNECT = `
const end = (word) => (console.log(word), process.exit());
require('node:net').connect({ host: process.argv[1], port: Number(process.argv[2]), timeout: 5000 })
  .on('connect', () => end('CONNECTED')).on('timeout', () => end('SILENT')).on('error', ({ code }) => end(code));`;

/** What a TCP connection from the network of a workload comes to: `CONNECTED`, `SILENT` or an errno. */
export async function connectFrom(sandbox: Sandbox, workloadId: string, to: { host: string; port: number }): Promise<string> {
  const { stdout } = await runInside(sandbox, ['ip', 'netns', 'exec', `claw-${workloadId}`, process.execPath, '-e', CONNECT, to.host, String(to.port)]);
  return stdout;
}
