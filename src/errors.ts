/** The one error type that users see and the closed list of its codes; it never formats output and never logs. */

export const ERROR_CODES = [
  'AGENT_ALREADY_RUNNING',
  'AGENT_UNREACHABLE',
  'CANCELLED',
  'CONFIG_INVALID',
  'CONFLICT',
  'DOCKER_FAILED',
  'DOCKER_UNREACHABLE',
  'INGRESS_EXISTS',
  'INGRESS_NOT_FOUND',
  'INTERNAL',
  'INVALID_ARGUMENT',
  'KERNEL_REFUSED',
  'LIMIT_EXCEEDED',
  'MISSING_BINARY',
  'NAMESPACE_EXISTS',
  'NAMESPACE_NOT_EMPTY',
  'NAMESPACE_NOT_FOUND',
  'NOT_ALLOWED',
  'NOT_SUPPORTED',
  'PERMISSION_DENIED',
  'POLICY_EXISTS',
  'POLICY_NOT_FOUND',
  'PROCESS_FAILED',
  'RANGE_FULL',
  'RANGE_OVERLAP',
  'SANDBOX_UNAVAILABLE',
  'SERVICE_EXISTS',
  'SERVICE_NOT_FOUND',
  'STORE_FAILED',
  'TIMEOUT',
  'UNKNOWN_COMMAND',
  'WORKLOAD_EXISTS',
  'WORKLOAD_FAILED',
  'WORKLOAD_NOT_FOUND',
] as const;

export type ErrorCode = (typeof ERROR_CODES)[number];

/** What every surface shows of an error: `path` names the offending argument (`ports[1].port`), `hint` the next step. */
export interface ErrorShape {
  readonly code: ErrorCode;
  readonly message: string;
  readonly path?: string;
  readonly hint?: string;
}

interface ErrorDetails {
  readonly path?: string;
  readonly hint?: string;
  readonly cause?: unknown;
}

/** An error with a code from the closed list. `message` holds the offending values; `hint` names what to do next. */
export class ClawError extends Error {
  override readonly name = 'ClawError';
  readonly code: ErrorCode;
  readonly path: string | undefined;
  readonly hint: string | undefined;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.path = details.path;
    this.hint = details.hint;
  }

  toJSON(): ErrorShape {
    return {
      code: this.code,
      message: this.message,
      ...(this.path === undefined ? {} : { path: this.path }),
      ...(this.hint === undefined ? {} : { hint: this.hint }),
    };
  }
}

/** Any thrown value as a ClawError: what is not one already is a defect of ours and becomes `INTERNAL`. */
export function toClawError(thrown: unknown): ClawError {
  if (thrown instanceof ClawError) return thrown;
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return new ClawError('INTERNAL', message, { cause: thrown, hint: 'This is a defect of clawnode; its log has the stack.' });
}
