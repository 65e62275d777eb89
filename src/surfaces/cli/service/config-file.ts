/** Where a configuration is looked for when none is named. */
export const DEFAULT_CONFIG_FILE = '/etc/clawnode/config.yaml';
