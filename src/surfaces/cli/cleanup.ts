/** `clawnode cleanup`: takes everything of the agent out of this machine's kernel; it has no logic of its own. */
import { geteuid } from 'node:process';
import { ClawError } from '../../errors.ts';
import { DEFAULT_SOCKET_PATH } from '../agent-client.ts';
import { stopSignal } from './stop-signal.ts';
import { DEFAULT_STATE_DIR } from './up.ts';
import { parseArguments, type Subcommand } from './usage.ts';

export const cleanup: Subcommand = {
  help: `Usage: clawnode cleanup [--state-dir DIR] [--socket PATH]

Stops all workloads and the ingress proxy and removes every iptables chain, set, interface, network namespace, address and
route of ours. Nothing else is touched: foreign rules stay. Forwarding is turned off again if it was off before the first agent.
The store stays: the next \`clawnode up\` programs the same services again. Refuses while an agent runs.

  --state-dir DIR  where the agent kept its state (${DEFAULT_STATE_DIR})
  --socket PATH    where the agent listened (${DEFAULT_SOCKET_PATH})

Exit code: 0 clean, 1 failed.
`,
  run: async (argv) => {
    const { values } = parseArguments({
      args: argv,
      options: { 'state-dir': { type: 'string', default: DEFAULT_STATE_DIR }, socket: { type: 'string', default: DEFAULT_SOCKET_PATH } },
    });
    if (geteuid?.() !== 0) {
      throw new ClawError('PERMISSION_DENIED', "only root can change this machine's kernel", { hint: 'Use `sudo clawnode cleanup`. A sandbox needs no cleanup.' });
    }
    const { cleanup: removeEverything } = await import('../../cleanup.ts');
    const report = await removeEverything({ stateDir: values['state-dir'], socketPath: values.socket }, stopSignal());
    const { workloads, interfaces, networkNamespaces, ruleLines, ipsets, addressesAndRoutes, forwardingTurnedOff } = report;
    process.stdout.write(
      `clean: ${workloads} workloads stopped; ${interfaces} interfaces, ${networkNamespaces} network namespaces, ` +
        `${ruleLines} lines of iptables, ${ipsets} sets, ${addressesAndRoutes} addresses and routes removed${forwardingTurnedOff ? '; forwarding is off again' : ''}\n`,
    );
    return 0;
  },
};
