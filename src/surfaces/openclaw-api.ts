/** The part of OpenClaw's plugin API (2026.9) that we use, in our own words, since the host is too huge to be built against; a test holds them against its own. */
import type { JsonSchema } from './tool-schema.ts';

export interface OpenClawPlugin {
  readonly id: string;
  readonly name: string;
  readonly description: string;
  /** Called synchronously, several times in a process, and in processes that never use the plugin. */
  readonly register: (api: OpenClawPluginApi) => void;
}

export interface OpenClawPluginApi {
  /** What `plugins.entries.<id>.config` holds; the host has checked it against the manifest's `configSchema`. */
  readonly pluginConfig?: Readonly<Record<string, unknown>>;
  readonly registerTool: (tool: OpenClawTool) => void;
  readonly registerNodeHostCommand: (command: NodeHostCommand) => void;
  readonly registerNodeInvokePolicy: (policy: NodeInvokePolicy) => void;
}

/** A tool of the agent that the gateway runs. */
export interface OpenClawTool {
  readonly name: string;
  readonly label: string;
  readonly description: string;
  readonly parameters: JsonSchema;
  /** Called before the host holds the arguments against `parameters`, and before it turns one type into another to make them fit. */
  readonly prepareArguments: (params: unknown) => unknown;
  readonly execute: (toolCallId: string, params: unknown, signal?: AbortSignal) => Promise<OpenClawToolResult>;
}

/** The keys `status`, `ok`, `success`, `error`, `timedOut` and `exitCode` of `details` tell the host how the call went. */
export interface OpenClawToolResult {
  readonly content: { readonly type: 'text'; readonly text: string }[];
  readonly details: { readonly answer: Readonly<Record<string, unknown>> } | { readonly ok: false; readonly error: unknown };
}

/** What a node host carries out when a gateway sends it `node.invoke`. */
export interface NodeHostCommand {
  readonly command: string;
  readonly cap: string;
  /** False lets the host update itself between calls. */
  readonly hasActiveWork: () => boolean;
  readonly handle: (paramsJSON?: string | null, io?: unknown, context?: { readonly signal?: AbortSignal }) => Promise<string>;
}

/** What a gateway lets through to a node; without one every command waits for a person to allow it. */
export interface NodeInvokePolicy {
  readonly commands: string[];
  readonly defaultPlatforms: 'linux'[];
  readonly handle: (context: { readonly invokeNode: () => Promise<NodeInvokeOutcome> }) => Promise<NodeInvokeOutcome>;
}

/** What came back from the node, passed on as it is. */
export type NodeInvokeOutcome =
  | { readonly ok: true; readonly payload?: unknown; readonly payloadJSON?: string | null }
  | { readonly ok: false; readonly code?: string; readonly message: string; readonly details?: Record<string, unknown> };
