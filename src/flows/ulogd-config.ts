/** What ulogd is told to do, and whether this machine has it; it starts nothing. */
import { accessSync, constants, existsSync, globSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { NFLOG_GROUP } from '../model/flow.ts';

/** The socket on which ulogd hands over events, beside its configuration. */
export const EVENT_SOCKET = 'events.sock';

const PLUGIN_DIRECTORIES = ['/usr/lib/*/ulogd', '/usr/lib64/ulogd', '/usr/lib/ulogd', '/usr/local/lib/ulogd'];
const JSON_PLUGIN = 'ulogd_output_JSON.so';
const PLUGINS = ['ulogd_inppkt_NFLOG.so', 'ulogd_raw2packet_BASE.so', 'ulogd_filter_IFINDEX.so', 'ulogd_filter_IP2STR.so', JSON_PLUGIN];

/** What keeps ulogd from being used here, and how to get it; undefined when all is there. */
export function missingUlogd(): string | undefined {
  const hint = 'install it with `clawnode doctor --fix`, or `apt-get install --no-install-recommends ulogd2-json`; it is used as soon as it is there';
  if (!isProgram('ulogd')) return `ulogd2 is not installed: ${hint}`;
  const directory = pluginDirectory();
  if (directory !== undefined && !existsSync(join(directory, JSON_PLUGIN))) return `the JSON output of ulogd2 is not installed: ${hint}`;
  return undefined;
}

/** Paths in it are relative to the directory in which it runs. */
export function ulogdConfig(): string {
  const directory = pluginDirectory();
  // Without a list it loads every plugin that it finds where it was built to look.
  const plugins = directory === undefined ? [] : PLUGINS.map((file) => `plugin="${join(directory, file)}"`);
  return [
    '[global]',
    'logfile="stdout"',
    'loglevel=7',
    ...plugins,
    'stack=in:NFLOG,base:BASE,ifi:IFINDEX,ip:IP2STR,out:JSON',
    '[in]',
    `group=${NFLOG_GROUP}`,
    // Else it would take the machine's loggers of other families off (net.netfilter.nf_log.*).
    'unbind=0',
    // The kernel numbers what it logs, so a gap tells how many events were lost.
    'seq_local=1',
    // Each event at once: the kernel else holds them back for up to a second.
    'netlink_qthreshold=1',
    'netlink_qtimeout=1',
    '[out]',
    'mode="unix"',
    `file="${EVENT_SOCKET}"`,
    'timestamp=0',
    '',
  ].join('\n');
}

function pluginDirectory(): string | undefined {
  return globSync(PLUGIN_DIRECTORIES)[0];
}

function isProgram(name: string): boolean {
  return (process.env['PATH'] ?? '').split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, name), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
