/** Tries real connections from inside a workload's network namespace, or from the node; it judges nothing. */
import { extname, join } from 'node:path';
import { z } from 'zod';
import { run, type Argv } from '../drivers/exec.ts';

export interface ProbeTarget {
  /** A name below /run/netns; undefined: the node itself. */
  readonly netns: string | undefined;
  readonly ip: string;
  readonly port: number;
  readonly protocol: 'tcp' | 'udp';
}

const attempt = z.strictObject({ code: z.string(), latencyMs: z.number() });
/** `OPEN`: an answer came; `SILENT`: none within the time; else the kernel's error code, such as ECONNREFUSED or EHOSTUNREACH. */
export type Attempt = z.infer<typeof attempt>;

const TIMEOUT_MS = { tcp: 3000, udp: 600 };

/** Throws ClawError `PROCESS_FAILED` when the attempt could not be made at all. */
export async function tryConnection({ netns, ip, port, protocol }: ProbeTarget, signal: AbortSignal): Promise<Attempt> {
  const script = join(import.meta.dirname, `probe-attempt${extname(import.meta.filename)}`);
  const attemptArgv: Argv = [process.execPath, script, ip, `${port}`, protocol, `${TIMEOUT_MS[protocol]}`];
  const argv: Argv = netns === undefined ? attemptArgv : ['nsenter', `--net=/run/netns/${netns}`, ...attemptArgv];
  const { stdout } = await run(argv, { signal, timeoutMs: TIMEOUT_MS[protocol] + 5000 });
  return attempt.parse(JSON.parse(stdout));
}

/** Whether any socket of that network namespace would take a TCP connection to the port. */
export async function isListening({ netns, port }: Pick<ProbeTarget, 'netns' | 'port'>, signal: AbortSignal): Promise<boolean> {
  const ss: Argv = ['ss', '--tcp', '--listening', '--no-header', '--numeric', 'sport', '=', `:${port}`];
  const { stdout } = await run(netns === undefined ? ss : ['nsenter', `--net=/run/netns/${netns}`, ...ss], { signal });
  return stdout.trim() !== '';
}
