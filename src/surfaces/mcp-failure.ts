/** A request that the protocol itself answers with an error: its number, text and data, whichever library carries it. It holds no text of its own. */

/** The numbers of JSON-RPC and MCP that are used here. */
export const RPC = { parseError: -32_700, invalidRequest: -32_600, invalidParams: -32_602, internalError: -32_603 } as const;

/** Thrown out of a request's handler. The protocol's library sends `code`, `message` and `data` of what a handler throws. */
export class McpFailure extends Error {
  override readonly name = 'McpFailure';
  readonly code: number;
  readonly data: unknown;

  constructor(code: number, message: string, data?: unknown) {
    super(message);
    this.code = code;
    this.data = data;
  }
}
