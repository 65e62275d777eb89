/** The ingress proxy's process: reads its configuration, joins the parts, obeys signals. It holds no rights and outlives the agent. */
import { randomBytes } from 'node:crypto';
import { pino } from 'pino';
import { toClawError } from '../errors.ts';
import { exitCodeOf, parseProxyConfig, type ProxyConfig } from './config.ts';
import { openControl, type ProxyHealth } from './control.ts';
import { createDialGuard } from './dial-guard.ts';
import { createEndpointRegistry } from './endpoints.ts';
import { openFront, type Front } from './front.ts';
import { readRoutesFile } from './routes-file.ts';
import { createLiveRoutes } from './routes.ts';
import { waitForTurn } from './standby.ts';

try {
  await serve(parseProxyConfig(process.argv[2]));
} catch (thrown) {
  const error = toClawError(thrown);
  process.stderr.write(`${JSON.stringify(error)}\n`);
  process.exitCode = exitCodeOf(error);
}

/** Resolves when the drain is over. */
async function serve(config: ProxyConfig): Promise<void> {
  // Every file that this process makes is a socket for its own user alone; set before the first, there is no moment at which it is wider.
  process.umask(0o177);
  const destination = pino.destination({ fd: 2, sync: true });
  // Whoever reads the log may be gone, like the agent; that must not end the proxy.
  destination.on('error', () => undefined);
  const log = pino({ base: { component: 'proxy', pid: process.pid } }, destination);
  const startedAt = new Date().toISOString();
  const stopping = new AbortController();
  const stop = (): void => stopping.abort();
  process.on('SIGTERM', stop).on('SIGINT', stop);
  // A closed terminal is no reason to stop serving.
  process.on('SIGHUP', () => undefined);

  const endpoints = createEndpointRegistry(config.limits);
  const routes = createLiveRoutes(endpoints, createDialGuard(config));
  let front: Front | undefined;
  let standby = false;
  const health = (): ProxyHealth => ({
    pid: process.pid,
    startedAt,
    version: routes.version() ?? null,
    listening: front?.listening() ?? [],
    standby,
    ...(front?.counters() ?? { requests: 0, active: 0, connections: 0 }),
    routes: routes.table().size,
    endpoints: endpoints.size(),
    draining: stopping.signal.aborted,
  });
  // The control socket comes first: a second proxy on it must fail before it takes a port.
  const control = await openControl({ socketPath: config.controlSocket, routes, health, drain: stop });
  try {
    // After the control socket: a snapshot that could not be put there yet lies in the file by the time it is read.
    if (config.routesFile !== undefined) {
      await readRoutesFile(config.routesFile, routes, log);
      await Promise.race([routes.arrived(), aborted(stopping.signal)]);
    }
    if (config.sibling !== undefined && !stopping.signal.aborted) {
      standby = true;
      await waitForTurn(config.sibling, stopping.signal);
      standby = false;
    }
    if (stopping.signal.aborted) return;
    front = await openFront({
      config,
      table: () => (routes.version() === undefined ? undefined : routes.table()),
      pseudonym: `clawnode-${randomBytes(8).toString('hex')}`,
      onDefect: (error) => log.error({ err: error }, 'a request failed by a defect of the proxy'),
    });
    log.info({ listening: front.listening() }, 'serving');
    await aborted(stopping.signal);
    log.info(front.counters(), 'draining');
    const drained = front.drain(AbortSignal.timeout(config.limits.drainTimeoutMs));
    control.breakIdle();
    await drained;
    await endpoints.close();
    log.info('stopped');
  } finally {
    await control.close();
    process.off('SIGTERM', stop).off('SIGINT', stop);
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
