/** Remembers which Docker Engine holds containers of this node, and removes them all once no agent looks after them any more. */
import { readFile, rm, writeFile } from 'node:fs/promises';
import { z } from 'zod';
import { openDockerRuntime, type DockerRuntimeOptions } from './docker.ts';

const remembered = z.strictObject({ v: z.literal(1), socketPath: z.string(), node: z.string() });

export async function rememberDocker(file: string, { socketPath, node }: DockerRuntimeOptions): Promise<void> {
  await writeFile(file, `${JSON.stringify({ v: 1, socketPath, node })}\n`, { mode: 0o600 });
}

/** Gives their number. Throws `DOCKER_UNREACHABLE` while there may be some and the Engine does not answer. */
export async function removeContainers(file: string, signal: AbortSignal): Promise<number> {
  const text = await readFile(file, 'utf8').catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (text === undefined) return 0;
  const { socketPath, node } = remembered.parse(JSON.parse(text));
  const docker = openDockerRuntime({ socketPath, node });
  try {
    const removed = await docker.removeOthers(new Set(), signal);
    await rm(file);
    return removed;
  } finally {
    await docker.close();
  }
}
