/** The packed plugin in the real OpenClaw host: installed, loaded, its skill eligible, its MCP server probed, its commands and tools called. */
import assert from 'node:assert/strict';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { z } from 'zod';
import { run } from '../../src/drivers/exec.ts';
import { openSandbox } from '../../src/sandbox/sandbox.ts';
import { connectAgent } from '../../src/surfaces/agent-client.ts';
import { tools } from '../../tools/index.ts';
import { checkout } from '../cli/sandbox-fixture.ts';
import { freePort, startHost, until } from './openclaw-gateway.ts';
import { openHost } from './openclaw-host.ts';
import { copyOfCheckout } from './openclaw-package.ts';

const ID = 'clawbernetes-networking';
const never = new AbortController().signal;
const toolNames = tools.map(({ toolName }) => toolName).toSorted();

const host = await openHost();
after(host.close);
const copy = await copyOfCheckout();
after(copy.close);

/** Where the host has put the package; its `clawnode` is the one that a user would link. */
const installed = join(host.home, '.openclaw', 'npm', 'projects', ID, 'node_modules');
const bin = join(host.home, 'bin');

test("our words for the plugin API fit the host's own types", async () => {
  const directory = join(host.home, 'types');
  await mkdir(directory);
  await symlink(host.modules, join(directory, 'node_modules'));
  const source = [
    "import type { OpenClawPluginApi as Host } from 'openclaw/plugin-sdk/plugin-entry';",
    `import type { OpenClawPluginApi } from ${JSON.stringify(join(checkout, 'src', 'surfaces', 'openclaw-api.ts'))};`,
    'export const ours = (host: Host): OpenClawPluginApi => host;',
    '// @ts-expect-error The types were found: neither is `any`.',
    'export const nothing: Host | OpenClawPluginApi = 1;',
  ];
  await writeFile(join(directory, 'fits.ts'), source.join('\n'));
  const settings = ['--ignoreConfig', '--noEmit', '--strict', '--skipLibCheck', '--module', 'nodenext', '--target', 'es2024', '--allowImportingTsExtensions'];
  const types = ['--types', 'node', '--typeRoots', join(checkout, 'node_modules', '@types')];
  const { exitCode, stdout } = await run([join(checkout, 'node_modules', '.bin', 'tsc'), ...settings, ...types, join(directory, 'fits.ts')], {
    timeoutMs: 120_000,
    okExitCodes: [0, 1, 2],
  });
  assert.equal(exitCode, 0, stdout);
});

test('A: the tarball installs, and the plugin is loaded with exactly our tools', async () => {
  const packed = await copy.pack();
  assert.equal(packed.exitCode, 0, packed.stderr);
  const install = await host.run(['plugins', 'install', `npm-pack:${copy.tarball}`, '--force', '--accept-capabilities']);
  const report = z.object({
    plugin: z.object({ status: z.string(), toolNames: z.array(z.string()), dependencyStatus: z.object({ requiredInstalled: z.boolean() }) }),
    diagnostics: z.array(z.unknown()),
  });
  const { plugin, diagnostics } = report.parse(await host.json(['plugins', 'inspect', ID, '--runtime']), { error: () => JSON.stringify(install) });
  assert.deepEqual(diagnostics, []);
  assert.equal(plugin.status, 'loaded');
  assert.deepEqual(plugin.toolNames.toSorted(), toolNames);
  assert.ok(plugin.dependencyStatus.requiredInstalled);
  await mkdir(bin);
  await symlink(join(installed, '.bin', 'clawnode'), join(bin, 'clawnode'));
});

test('B: the skill is eligible with clawnode on the PATH, and says that it is missing without', async () => {
  const skill = z.object({ eligible: z.boolean(), modelVisible: z.boolean(), missing: z.object({ bins: z.array(z.string()) }) });
  const info = async (path: readonly string[]): Promise<unknown> => skill.parse(await host.json(['skills', 'info', 'networking'], { path }));
  assert.deepEqual(await info([]), { eligible: false, modelVisible: false, missing: { bins: ['clawnode'] } });
  assert.deepEqual(await info([bin]), { eligible: true, modelVisible: true, missing: { bins: [] } });
});

/** What the host itself puts beside the tools of a server that has resources and prompts. */
const MADE_BY_HOST = ['prompts_get', 'prompts_list', 'resources_list', 'resources_read'];

test('C: the host starts our MCP server and finds exactly our tools, and makes its own for resources and prompts', async () => {
  const add = await host.run(['mcp', 'add', 'clawnode', '--command', 'clawnode', '--arg', 'mcp', '--arg', '--toolsets', '--arg', 'all', '--no-probe'], { path: [bin] });
  const probe = z.object({ servers: z.record(z.string(), z.object({ tools: z.number() })), tools: z.array(z.string()), diagnostics: z.array(z.unknown()) });
  const seen = probe.parse(await host.json(['mcp', 'probe', 'clawnode'], { path: [bin] }), { error: () => JSON.stringify(add) });
  assert.deepEqual(seen.diagnostics, []);
  const expected = [...toolNames, ...MADE_BY_HOST].toSorted();
  assert.equal(seen.servers['clawnode']?.tools, toolNames.length);
  // The host puts the name of the server before each tool's.
  assert.deepEqual(seen.tools.toSorted(), expected.map((name) => `clawnode__${name}`));
});

test('D: node.invoke on a node and a tool of the gateway reach the agent, and without one the answer says so', async (t) => {
  const port = await freePort();
  const token = 'only-for-this-test';
  const env = { OPENCLAW_GATEWAY_TOKEN: token };
  const sandbox = await openSandbox({}, never);
  t.after(sandbox.close);
  await host.run(['config', 'set', 'gateway.mode', 'local']);
  await host.run(['config', 'set', `plugins.entries.${ID}.config.socket`, sandbox.socketPath]);
  startHost(t, host, { args: ['gateway', 'run', '--port', String(port), '--bind', 'loopback', '--token', token], path: [bin], env });
  const gateway = ['--url', `ws://127.0.0.1:${port}`, '--token', token];
  await until(() => fetch(`http://127.0.0.1:${port}/`).then(() => true, () => false));

  const commands = tools.map(({ command }) => command).join(',');
  startHost(t, host, { args: ['node', 'run', '--host', '127.0.0.1', '--port', String(port), '--display-name', 'n1', '--commands', commands], path: [bin], env });
  const pending = z.array(z.object({ requestId: z.string() }));
  const [request] = await until(async () => pending.safeParse(await host.json(['nodes', 'pending', ...gateway])).data?.slice(0, 1) ?? [], (found) => found.length > 0);
  await host.run(['nodes', 'approve', request?.requestId ?? '', ...gateway]);

  const answer = z.object({ ok: z.literal(true), payload: z.record(z.string(), z.unknown()) });
  const invoke = async (command: string, params: unknown): Promise<Record<string, unknown>> => {
    const printed = await host.json(['nodes', 'invoke', '--node', 'n1', '--command', command, '--params', JSON.stringify(params), ...gateway]);
    const { data } = answer.safeParse(printed);
    return data?.payload ?? assert.fail(JSON.stringify(printed));
  };
  const { clusterIp } = await invoke('service.create', { name: 'web', selector: { app: 'web' }, port: 80 });
  assert.match(String(clusterIp), /^10\.201\.\d+\.\d+$/);
  assert.deepEqual(await invoke('service.get', { name: 'web' }), await connectAgent(sandbox.socketPath).invoke('service.get', { name: 'web' }, never));
  const called = await fetch(`http://127.0.0.1:${port}/tools/invoke`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify({ tool: 'service_get', args: { name: 'web' } }),
  });
  const result = z.object({ ok: z.literal(true), result: z.object({ details: z.object({ answer: z.object({ clusterIp: z.string() }) }) }) });
  assert.equal(result.parse(await called.json()).result.details.answer.clusterIp, clusterIp);

  const { error } = await invoke('service.create', { name: 'api', port: 80_000 });
  assert.deepEqual(z.object({ code: z.string(), path: z.string() }).parse(error), { code: 'INVALID_ARGUMENT', path: 'port' });

  await sandbox.close();
  const { error: unreachable } = await invoke('network.status', {});
  assert.match(z.object({ code: z.literal('AGENT_UNREACHABLE'), hint: z.string() }).parse(unreachable).hint, /clawnode up/);
});
