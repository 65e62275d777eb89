/** The port of MCP over HTTP, for whoever must know it without loading any of it. */

/** Unless told. */
export const DEFAULT_HTTP_PORT = 8_400;
