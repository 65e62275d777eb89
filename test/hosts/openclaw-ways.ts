/** The ways in which an agent of OpenClaw reaches ours: through `node.invoke` on a node host, and through the tools of the gateway. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { tools } from '../../tools/index.ts';
import type { Way } from './same-answers.ts';
import { freePort, startHost, until, type Ending } from './openclaw-gateway.ts';
import type { OpenClawHost } from './openclaw-host.ts';

const NODE = 'n1';
const TOKEN = 'only-for-this-test';

export interface GatewayOptions {
  readonly pluginId: string;
  /** The plugin's `socket` in the configuration of the gateway, and in that of the node host. */
  readonly sockets: { readonly gateway: string; readonly node: string };
  /** The directory that holds `clawnode`. */
  readonly bin: string;
}

export interface Gateway {
  /** The `nodes` tool, which sends `node.invoke` to the node host. */
  readonly byNode: Way;
  /** The plugin's own tools. */
  readonly byTool: Way;
  /** `openclaw nodes invoke`, as a person would type it; it takes seconds. */
  readonly byHostCommandLine: Way;
  /** `POST /tools/invoke` with any token. */
  readonly post: (tool: string, args: unknown, token?: string) => Promise<{ readonly status: number; readonly body: unknown }>;
}

const result = z.object({ content: z.array(z.object({ type: z.literal('text'), text: z.string() })), details: z.unknown() });
const posted = z.object({ status: z.literal(200), body: z.object({ ok: z.literal(true), result }) });
const object = z.record(z.string(), z.unknown());
const toolDetails = z.union([z.strictObject({ answer: object }), z.strictObject({ ok: z.literal(false), error: object })]);
const invoked = z.object({ ok: z.literal(true), command: z.string(), payload: object });
const failed = z.strictObject({ error: object });

/** Starts a gateway and a node host of its own home, and lets the node in. */
export async function openGateway(t: Ending, host: OpenClawHost, { pluginId, sockets, bin }: GatewayOptions): Promise<Gateway> {
  const port = await freePort();
  const nodeConfig = join(host.home, 'node.json');
  await configure(host, { from: join(host.home, '.openclaw', 'openclaw.json'), to: nodeConfig, pluginId, socket: sockets.node });
  await configure(host, { from: nodeConfig, to: join(host.home, '.openclaw', 'openclaw.json'), pluginId, socket: sockets.gateway });
  // The configuration comes before the environment: nobody listens here.
  const env = { OPENCLAW_GATEWAY_TOKEN: TOKEN, CLAWNODE_SOCKET: join(host.home, 'nobody.sock') };
  startHost(t, host, { args: ['gateway', 'run', '--port', String(port), '--bind', 'loopback', '--token', TOKEN], path: [bin], env });
  const commands = tools.map(({ command }) => command).join(',');
  const args = ['node', 'run', '--host', '127.0.0.1', '--port', String(port), '--display-name', NODE, '--commands', commands];
  // It tries again until the gateway is there, and takes as long to start.
  startHost(t, host, { args, path: [bin], env: { ...env, OPENCLAW_CONFIG_PATH: nodeConfig } });
  await until(() => fetch(`http://127.0.0.1:${port}/`).then(() => true, () => false));

  const post: Gateway['post'] = async (tool, toolArgs, token = TOKEN) => {
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
    const response = await fetch(`http://127.0.0.1:${port}/tools/invoke`, { method: 'POST', headers, body: JSON.stringify({ tool, args: toolArgs }) });
    return { status: response.status, body: await response.json() };
  };
  await letNodeIn(post);
  return { post, byNode: nodeWay(post), byTool: toolWay(post), byHostCommandLine: typedWay(host, ['--url', `ws://127.0.0.1:${port}`, '--token', TOKEN]) };
}

interface Configuration {
  readonly from: string;
  readonly to: string;
  readonly pluginId: string;
  readonly socket: string;
}

/** What `openclaw config set` would do, once for each of our settings and in seconds each time. */
async function configure(host: OpenClawHost, { from, to, pluginId, socket }: Configuration): Promise<void> {
  const written = z.looseObject({}).parse(JSON.parse(await readFile(from, 'utf8')));
  // The `nodes` tool is closed to HTTP as long as nobody opens it.
  const gateway = { mode: 'local', tools: { allow: ['nodes'] } };
  // Every plugin that is loaded makes each start longer.
  const plugins = { allow: [pluginId], entries: { [pluginId]: { enabled: true, config: { socket } } } };
  const config = { ...written, gateway, plugins };
  assert.ok(to.startsWith(host.home));
  await writeFile(to, JSON.stringify(config));
}

async function letNodeIn(post: Gateway['post']): Promise<void> {
  const pending = z.object({ pending: z.array(z.object({ requestId: z.string(), displayName: z.literal(NODE) })).min(1) });
  const look = async (): Promise<string | undefined> => {
    // The gateway answers before its tools are all there.
    const { data } = posted.safeParse(await post('nodes', { action: 'pending' }));
    return pending.safeParse(data?.body.result.details).data?.pending[0]?.requestId;
  };
  const requestId = await until(look, (found) => found !== undefined);
  posted.parse(await post('nodes', { action: 'approve', requestId }));
}

function nodeWay(post: Gateway['post']): Way {
  return async (command, params) => {
    const args = { action: 'invoke', node: NODE, invokeCommand: command, invokeParamsJson: JSON.stringify(params) };
    return said(posted.parse(await post('nodes', args)).body.result.details, command);
  };
}

function typedWay(host: OpenClawHost, gateway: readonly string[]): Way {
  return async (command, params) => said(await host.json(['nodes', 'invoke', '--node', NODE, '--command', command, '--params', JSON.stringify(params), ...gateway]), command);
}

/** An answer of `node.invoke`. Some of ours hold an `error` among others; a failure holds nothing else. */
function said(answer: unknown, command: string): Awaited<ReturnType<Way>> {
  const { data, error } = invoked.safeParse(answer);
  if (data === undefined) throw new Error(`no answer of a node: ${JSON.stringify(answer)}`, { cause: error });
  assert.equal(data.command, command);
  return failed.safeParse(data.payload).data ?? { answer: data.payload };
}

function toolWay(post: Gateway['post']): Way {
  return async (command, params) => {
    const { content, details } = posted.parse(await post(command.replaceAll('.', '_'), params)).body.result;
    const graded = toolDetails.parse(details);
    const text = content.map((part) => part.text).join('\n');
    if ('answer' in graded) {
      assert.ok(text.startsWith(command), text);
      return { answer: graded.answer };
    }
    // This is all that a model reads.
    assert.deepEqual(JSON.parse(text), graded.error);
    return { error: graded.error };
  };
}
