/** An agent of the real OpenClaw host for tests: a gateway whose model is scripted, and a node that is paired with it. */
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { z } from 'zod';
import { tools } from '../../tools/index.ts';
import { freePort, startHost, until } from './openclaw-gateway.ts';
import type { OpenClawHost } from './openclaw-host.ts';
import { copyOfCheckout } from './openclaw-package.ts';
import { MODEL_ID, type ScriptedModel, type Turn } from './scripted-model.ts';

export const PLUGIN_ID = 'clawbernetes-networking';
export const NODE_NAME = 'n1';

/** Packs this checkout and installs it as a user would. The directory that holds the installed `clawnode`, for the PATH. */
export async function installPlugin(host: OpenClawHost): Promise<string> {
  const copy = await copyOfCheckout();
  try {
    const packed = await copy.pack();
    if (packed.exitCode !== 0) throw new Error(packed.stderr);
    const { exitCode, stdout, stderr } = await host.run(['plugins', 'install', `npm-pack:${copy.tarball}`, '--force', '--accept-capabilities']);
    if (exitCode !== 0) throw new Error(`the plugin was not installed: ${stdout}${stderr}`);
  } finally {
    await copy.close();
  }
  const bin = join(host.home, 'bin');
  await mkdir(bin);
  await symlink(join(host.home, '.openclaw', 'npm', 'projects', PLUGIN_ID, 'node_modules', '.bin', 'clawnode'), join(bin, 'clawnode'));
  return bin;
}

export interface HostAgent {
  /** One turn of the agent through the gateway; what it said at the end. */
  readonly turn: (message: string, turn: Turn) => Promise<string>;
}

interface AgentOptions {
  readonly model: ScriptedModel;
  /** The directory with `clawnode`. */
  readonly bin: string;
  /** The socket of the networking agent. */
  readonly socketPath: string;
}

/** Starts gateway and node, approves the node's commands as a person would, and ends both with the test. */
export async function startAgent(t: TestContext, host: OpenClawHost, { model, bin, socketPath }: AgentOptions): Promise<HostAgent> {
  const port = await freePort();
  await configure(host, { port, model, socketPath });
  const options = { path: [bin], env: { OPENCLAW_GATEWAY_PORT: String(port) } };
  startHost(t, host, { args: ['gateway', 'run'], ...options });
  const commands = tools.map(({ command }) => command).join(',');
  // It tries again until the gateway is there, and takes as long to start.
  startHost(t, host, { args: ['node', 'run', '--host', '127.0.0.1', '--port', String(port), '--display-name', NODE_NAME, '--commands', commands], ...options });
  await until(() => fetch(`http://127.0.0.1:${port}/`).then(() => true, () => false));
  const pending = z.array(z.object({ requestId: z.string() }));
  const look = async (): Promise<string | undefined> => pending.safeParse(await host.json(['nodes', 'pending'], options)).data?.[0]?.requestId;
  const requestId = await until(look, (found) => found !== undefined);
  await host.run(['nodes', 'approve', requestId ?? ''], options);
  return {
    turn: (message, turn) =>
      model.play(turn, async () => {
        const printed = await host.json(['agent', '--agent', 'main', '--message', message, '--timeout', '120'], options);
        return answered.parse(printed, { error: () => JSON.stringify(printed) }).result.payloads.map(({ text }) => text).join('\n');
      }),
  };
}

const answered = z.object({ status: z.literal('ok'), result: z.object({ payloads: z.array(z.object({ text: z.string() })) }) });

/** Beside what the installation wrote. */
async function configure(host: OpenClawHost, { port, model, socketPath }: { port: number; model: ScriptedModel; socketPath: string }): Promise<void> {
  const file = join(host.home, '.openclaw', 'openclaw.json');
  const written = z.looseObject({}).parse(JSON.parse(await readFile(file, 'utf8')));
  const scripted = { id: MODEL_ID, name: 'Scripted', reasoning: false, input: ['text'], cost: { input: 0, output: 0, cacheRead: 0, cacheWrite: 0 }, contextWindow: 200_000, maxTokens: 8_192 };
  const settings = {
    ...written,
    gateway: { mode: 'local', port, bind: 'loopback', auth: { mode: 'token', token: 'only-for-this-test' } },
    // Every plugin that is loaded makes the start of the gateway, and of each command, longer.
    plugins: { allow: [PLUGIN_ID], entries: { [PLUGIN_ID]: { enabled: true, config: { socket: socketPath } } } },
    models: { mode: 'merge', providers: { mock: { baseUrl: model.baseUrl, apiKey: 'none', api: 'openai-completions', models: [scripted] } } },
    agents: { defaults: { model: { primary: `mock/${MODEL_ID}` } } },
    // The model is shown every tool with its schema, instead of a tool that searches for tools.
    tools: { toolSearch: false },
  };
  await writeFile(file, JSON.stringify(settings));
}
