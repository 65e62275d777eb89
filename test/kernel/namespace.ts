/** Makes a fresh network namespace usable for a kernel test; it refuses to run on the machine's own network. */
import { strict as assert } from 'node:assert';
import { readlinkSync } from 'node:fs';
import { run } from '../../src/drivers/exec.ts';

/**
 * Call it first in every kernel test file. The runner starts those in a namespace of their own, and says so in the
 * environment; without that they would write into the rules of the machine.
 */
export async function enterNamespace(): Promise<void> {
  const outside = process.env['CLAWNODE_TEST_HOST_NETNS'];
  assert.ok(outside !== undefined && outside !== readlinkSync('/proc/self/ns/net'), 'run kernel tests through `node scripts/run-tests.ts`');
  // The lock of iptables-legacy and the names of network namespaces live in /run; sysfs shows the interfaces of this namespace.
  await run(['mount', '-t', 'tmpfs', 'tmpfs', '/run']);
  await run(['mount', '-t', 'sysfs', 'sysfs', '/sys']);
  await run(['ip', 'link', 'set', 'lo', 'up']);
}

/** What a program prints on stdout. */
export async function stdoutOf(...argv: readonly [string, ...string[]]): Promise<string> {
  return (await run(argv, { timeoutMs: 60_000 })).stdout;
}

/** Resolves when the address answers, from here or from a network namespace: with a refusal, for nothing listens on port 9. */
export async function reach(address: string, netns?: string): Promise<void> {
  const script = ['-e', REACH, address];
  await run(netns === undefined ? [process.execPath, ...script] : ['nsenter', `--net=/run/netns/${netns}`, process.execPath, ...script]);
}

const REACH = `
  const socket = require('node:net').connect({ host: process.argv[1], port: 9, timeout: 3000 });
  socket.on('timeout', () => { throw new Error('no answer'); });
  socket.on('error', (error) => { if (error.code !== 'ECONNREFUSED') throw error; });
`;
