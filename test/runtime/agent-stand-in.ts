/** A stand-in for the agent that tests kill: opens the runtime, adopts, starts the specs given as JSON, tells so on stdout, and waits. */
import { z } from 'zod';
import { openProcessRuntime } from '../../src/runtime/process.ts';

const request = z.object({
  directory: z.string(),
  hide: z.array(z.string()),
  specs: z.array(z.object({ id: z.string(), command: z.array(z.string()), env: z.record(z.string(), z.string()), restart: z.enum(['no', 'always']), netns: z.string() })),
});
const { directory, hide, specs } = request.parse(JSON.parse(process.argv[2] ?? ''));
const { signal } = new AbortController();
const runtime = await openProcessRuntime({ directory, hide });
await runtime.adopt(specs, signal);
process.stdout.write('ready\n');
const started = await Promise.all(specs.map((spec) => runtime.start(spec, signal)));
process.stdout.write(`${JSON.stringify(started)}\n`);
setInterval(() => undefined, 60_000);
