/** The agent's process inside a sandbox: reads its arguments, opens the agent, closes it on SIGTERM. Started by PID 1 only. */
import { enableCompileCache, flushCompileCache } from 'node:module';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ClawError, toClawError } from '../errors.ts';

const { values } = parseArgs({
  options: { 'state-dir': { type: 'string' }, socket: { type: 'string' }, publish: { type: 'string' }, published: { type: 'string' }, config: { type: 'string' } },
});

const stop = new AbortController();
process.once('SIGTERM', () => stop.abort());

// Stripping the types of a checkout takes most of an agent's start. Who may write this cache may write the sources too.
if (import.meta.filename.endsWith('.ts')) enableCompileCache(join(import.meta.dirname, '..', '..', 'node_modules', '.cache', 'clawnode'));

try {
  const [{ openAgent }, { pino }] = await Promise.all([import('../agent.ts'), import('pino')]);
  const agent = await openAgent(
    {
      mode: 'sandbox',
      stateDir: required('state-dir'),
      socketPath: required('socket'),
      publishSocket: required('publish'),
      publishedUrl: required('published'),
      ...(values.config === undefined ? {} : { configFile: values.config }),
      logger: pino({ level: 'info' }, pino.destination({ dest: 2, sync: true })),
    },
    stop.signal,
  );
  // A sandbox ends by SIGKILL, so the cache would never be written at the end.
  flushCompileCache();
  if (stop.signal.aborted) await agent.close();
  else stop.signal.addEventListener('abort', () => void agent.close(), { once: true });
} catch (error) {
  // The supervisor reads this last line of the log to tell its user why there is no sandbox.
  process.stderr.write(`${JSON.stringify(toClawError(error))}\n`);
  process.exitCode = 1;
}

function required(name: 'state-dir' | 'socket' | 'publish' | 'published'): string {
  const value = values[name];
  if (value === undefined) throw new ClawError('INVALID_ARGUMENT', `--${name} is missing`, { path: name });
  return value;
}
