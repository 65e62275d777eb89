/** The last snapshot as the agent left it in a file: what a proxy serves that is started while no agent lives. It never writes the file. */
import { readFile } from 'node:fs/promises';
import type { Logger } from 'pino';
import { toClawError } from '../errors.ts';
import type { LiveRoutes } from './routes.ts';

/** Applies the file's snapshot, unless a newer one has come already. A file that is missing or broken leaves the proxy without routes and is told. */
export async function readRoutesFile(path: string, routes: Pick<LiveRoutes, 'apply'>, log: Pick<Logger, 'info' | 'error'>): Promise<void> {
  try {
    const { version, refused } = await routes.apply(JSON.parse(await readFile(path, 'utf8')));
    log.info({ version, refused: refused.length }, 'routes are those of the file');
  } catch (thrown) {
    const error = toClawError(thrown);
    if (error.code === 'CONFLICT') log.info('routes are newer than those of the file');
    else log.error({ err: thrown }, 'the file of routes can not be used; the agent has to send them');
  }
}
