/** The snapshot that a worker of the ingress proxy starts with, kept where it can be read by the proxy and written by the agent alone. */
import { chmod, chown, mkdir, open, rename, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';

export interface RouteFile {
  /** The version of what it holds; 0 when it holds nothing. */
  readVersion(): Promise<number>;
  /** In one step: whoever reads it meets the old snapshot or the new one. */
  write(snapshot: string): Promise<void>;
}

/** A snapshot as the proxy takes it; its version comes first, so that nobody has to read all of it for that. */
export function snapshotText(version: number, routes: string): string {
  return `{"version":${version},"routes":${routes}}`;
}

/** Makes the file's directory. `uid` is the proxy's, where it has one of its own. */
export async function openRouteFile(path: string, uid: number | undefined): Promise<RouteFile> {
  await mkdir(dirname(path), { recursive: true });
  // The proxy sees this directory through a read-only mount; the one above it is closed to everybody else.
  await chmod(dirname(path), 0o755);
  return {
    readVersion: async () => Number(/^\{"version":(\d+),/.exec(await readHead(path))?.[1] ?? 0),
    write: async (snapshot) => {
      const unfinished = `${path}.new`;
      await rm(unfinished, { force: true });
      await writeFile(unfinished, snapshot, { mode: 0o600 });
      if (uid !== undefined) await chown(unfinished, uid, uid);
      await rename(unfinished, path);
    },
  };
}

async function readHead(path: string): Promise<string> {
  const file = await open(path).catch(() => undefined);
  if (file === undefined) return '';
  try {
    const { buffer, bytesRead } = await file.read({ buffer: Buffer.alloc(64), position: 0 });
    return buffer.toString('latin1', 0, bytesRead);
  } finally {
    await file.close();
  }
}
