/** `clawnode cleanup`: takes everything of the agent out of this machine's kernel; it has no logic of its own. */
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { geteuid } from 'node:process';
import type { CleanupReport } from '../../cleanup.ts';
import { ClawError } from '../../errors.ts';
import { agentSocketPath, DEFAULT_SOCKET_PATH } from '../agent-client.ts';
import { refuseInsideSandbox } from './inside-sandbox.ts';
import { stopSignal } from './stop-signal.ts';
import { DEFAULT_STATE_DIR } from './state-path.ts';
import { parseArguments, type Subcommand } from './usage.ts';

export const cleanup: Subcommand = {
  help: `Usage: clawnode cleanup [--state-dir DIR] [--socket PATH]

Stops all workloads and the ingress proxy and removes every iptables chain, set, interface, network namespace, address and
route of ours. Nothing else is touched: foreign rules stay. Forwarding is turned off again if it was off before the first agent.
The store stays: the next \`clawnode up\` programs the same services again. Refuses while an agent runs.

  --state-dir DIR  where the agent kept its state (${DEFAULT_STATE_DIR}); without it, only what the kernel holds is removed
  --socket PATH    where the agent listened (CLAWNODE_SOCKET, else ${DEFAULT_SOCKET_PATH})

Exit code: 0 clean, 1 failed.
`,
  run: async (argv) => {
    const { values } = parseArguments({
      args: argv,
      options: { 'state-dir': { type: 'string', default: DEFAULT_STATE_DIR }, socket: { type: 'string', default: agentSocketPath() } },
    });
    if (geteuid?.() !== 0) {
      throw new ClawError('PERMISSION_DENIED', "only root can change this machine's kernel", { hint: 'Use `sudo clawnode cleanup`. A sandbox needs no cleanup.' });
    }
    await refuseInsideSandbox('There is nothing to clean up: what is in a sandbox ends with it.');
    const report = await removeEverything(values['state-dir'], values.socket);
    const { workloads, interfaces, networkNamespaces, ruleLines, ipsets, addressesAndRoutes, forwardingTurnedOff } = report;
    process.stdout.write(
      `clean: ${workloads} workloads stopped; ${interfaces} interfaces, ${networkNamespaces} network namespaces, ` +
        `${ruleLines} lines of iptables, ${ipsets} sets, ${addressesAndRoutes} addresses and routes removed${forwardingTurnedOff ? '; forwarding is off again' : ''}\n`,
    );
    return 0;
  },
};

async function removeEverything(stateDir: string, socketPath: string): Promise<CleanupReport> {
  const { cleanup: remove } = await import('../../cleanup.ts');
  const stop = stopSignal();
  if (await exists(stateDir)) return remove({ stateDir, socketPath }, stop);
  // A lock must lie somewhere, and a mistyped name must not come into being.
  const standIn = await mkdtemp(join(tmpdir(), 'clawnode-cleanup-'));
  try {
    const report = await remove({ stateDir: standIn, socketPath }, stop);
    process.stderr.write(`clawnode: there is no state directory ${stateDir}: only what the kernel holds was removed, no process was stopped\n`);
    return report;
  } finally {
    await rm(standIn, { recursive: true, force: true });
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return false;
    throw error;
  }
}
