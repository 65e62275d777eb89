/** Where the agent keeps its state unless told. */
export const DEFAULT_STATE_DIR = '/var/lib/clawnode';
