/** Turns the signals that ask a program to stop into an AbortSignal; a second one changes nothing. */
import { constants } from 'node:os';

const STOPPING = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Aborts with the signal's name as its reason. From the call on this process no longer dies of these signals by itself. */
export function stopSignal(): AbortSignal {
  const controller = new AbortController();
  // Ctrl-C reaches a program twice, from the terminal and from its launcher, so the handlers stay.
  for (const name of STOPPING) process.on(name, () => controller.abort(name));
  return controller.signal;
}

/** The exit code a shell shows for a program that died of this signal. */
export function exitCodeOf(signal: NodeJS.Signals): number {
  return 128 + constants.signals[signal];
}

/** The exit code for a subcommand that was stopped before it was done. */
export function stoppedExitCode(signal: AbortSignal): number {
  const name = STOPPING.find((known) => known === signal.reason);
  return name === undefined ? 1 : exitCodeOf(name);
}
