/** Listens to changes of interfaces, addresses and routes with one long-lived `ip monitor` and says when ours may be among them; it reads no state. */
import { MESH_INTERFACE, WORKLOAD_INTERFACE_PREFIX } from '../model/node.ts';
import { watchLines, type LineWatch } from './drift-watch-lines.ts';
import { OWN_PROTOCOL } from './ip-command.ts';
import { OWN_ADDRESS_LABEL } from './node-network.ts';

export interface NetworkWatchOptions {
  /** Something of ours, or what ours rests on, changed; our own changes are among them. */
  readonly onChange: () => void;
  /** `ip` was started, the first time or again. */
  readonly onStart: () => void;
  readonly onLost: (reason: string) => void;
}

export function watchNetwork({ onChange, onStart, onLost }: NetworkWatchOptions): LineWatch {
  return watchLines({
    argv: ['ip', '-oneline', '-4', 'monitor', 'link', 'address', 'route', 'netconf'],
    onLines: (lines) => {
      if (lines.some(concernsUs)) onChange();
    },
    onStart,
    onEnd: onLost,
  });
}

/** Whether a line of `ip -oneline monitor` tells of something that is ours. */
export function concernsUs(line: string): boolean {
  // `inet clawvabc forwarding on ...` comes with every new interface.
  if (/^(?:Deleted )?inet6? /.test(line)) return / forwarding off/.test(line);
  return CONCERNS_US.test(line);
}

const CONCERNS_US = new RegExp(`\\b(?:${WORKLOAD_INTERFACE_PREFIX}|${MESH_INTERFACE}\\b)|\\bproto ${OWN_PROTOCOL}\\b|\\b${OWN_ADDRESS_LABEL}\\b|^\\d+: lo: `);
