/**
 * A program that opens a sandbox with a fake agent, tells about it in one line of JSON and then waits to be killed.
 * Its arguments are a command that it also runs inside.
 */
import { dirname } from 'node:path';
import { openSandbox } from '../../src/sandbox/sandbox.ts';
import { fakeAgentArgv } from './sandbox-fixture.ts';

const sandbox = await openSandbox({ agent: fakeAgentArgv, ingressPort: 22_443 }, new AbortController().signal);
const [program, ...args] = process.argv.slice(2);
if (program !== undefined) sandbox.enter([program, ...args], 'ignore');
process.stdout.write(`${JSON.stringify({ initPid: sandbox.initPid, directory: dirname(sandbox.socketPath) })}\n`);
setInterval(() => undefined, 60_000);
